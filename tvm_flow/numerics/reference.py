"""Executes the meaning of a kernel, a Relax function, on the kernel's own inputs.

Integers are exact. Floats carry a bound on what single precision may do to them (see `tvm_flow.numerics.bounded`), so
that a quantized result says for itself which elements lie within rounding error of a tie. Every operator that a kernel
may hold is listed in `tvm_flow.numerics.operators`; another is an error, not a guess.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_flow.errors import BitExactError
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.operators import EXP_ABSOLUTE, EXP_RELATIVE, OPERATORS
from tvm_flow.numerics.rounded import Array, Rounded, Value

__all__ = ["EXP_ABSOLUTE", "EXP_RELATIVE", "OPERATORS", "Array", "Rounded", "Value", "execute"]

_LITERALS = ("ShapeExpr", "IntImm", "FloatImm")


def execute(function: Any, inputs: list[Array]) -> Value:
    """Result of the Relax function ``function``; int inputs as they are, float32 ones taken as exact.

    Raises BitExactError naming an operator that the reference does not know, or a type that kernels do not have.
    """
    env: dict[Any, Value] = {}
    for parameter, array in zip(function.params, inputs, strict=True):
        env[parameter] = _read(np.asarray(array))
    for block in function.body.blocks:
        for binding in block.bindings:
            env[binding.var] = _evaluate(binding.value, env)
    return env[function.body.body]


def _read(array: Array) -> Value:
    if array.dtype == np.float32:
        return Bounded.exact(array)
    if array.dtype.kind not in "iu":
        raise BitExactError(f"tensor: expected float32 or integers, got {array.dtype}; cast it in the graph")
    return array


def _evaluate(expr: Any, env: dict[Any, Value]) -> Value:
    if expr in env:
        return env[expr]
    if hasattr(expr, "value") and hasattr(expr.value, "numpy"):
        return _read(np.asarray(expr.value.numpy()))
    name = str(getattr(getattr(expr, "op", None), "name", type(expr).__name__))
    if name not in OPERATORS:
        raise BitExactError(
            f"operator {name}: expected one that the integer reference knows ({', '.join(sorted(OPERATORS))}); "
            "add its meaning to tvm_flow/numerics/operators.py"
        )
    return OPERATORS[name](expr, [_arguments(arg, env) for arg in expr.args])


def _arguments(arg: Any, env: dict[Any, Value]) -> Any:
    """A tensor's value, a list of them for a tuple, or a literal as it stands."""
    if hasattr(arg, "fields"):
        return [_arguments(field, env) for field in arg.fields]
    return arg if type(arg).__name__ in _LITERALS else _evaluate(arg, env)
