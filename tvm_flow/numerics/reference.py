"""Executes the meaning of a kernel, a Relax function, on the kernel's own inputs.

Integers are exact. Floats carry a bound on what single precision may do to them (see `tvm_flow.numerics.bounded`), so
that a quantized result says for itself which elements lie within rounding error of a tie. Every operator that a kernel
may hold is listed here; another is an error, not a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.errors import BitExactError
from tvm_flow.numerics import bounded
from tvm_flow.numerics.bounded import Bounded

Array = npt.NDArray[Any]
Value = Array | Bounded
"""An integer array, or a bounded float."""

EXP_RELATIVE = 4 * bounded.U
EXP_ABSOLUTE = 1.7e-38
EXP_UPPER = 88.0
"""What the kernels' exponential promises: see `tvm_flow.lower.exponential`, whose tests hold it to these."""


def execute(function: Any, inputs: list[Array]) -> Value:
    """Result of the Relax function ``function``; int inputs as they are, float32 ones taken as exact.

    Raises BitExactError naming an operator that the reference does not know.
    """
    env: dict[Any, Value] = {}
    for parameter, array in zip(function.params, inputs, strict=True):
        env[parameter] = Bounded.exact(array) if array.dtype == np.float32 else array
    for block in function.body.blocks:
        for binding in block.bindings:
            env[binding.var] = _evaluate(binding.value, env)
    return env[function.body.body]


def _evaluate(expr: Any, env: dict[Any, Value]) -> Value:
    if expr in env:
        return env[expr]
    if hasattr(expr, "value") and hasattr(expr.value, "numpy"):
        array = np.asarray(expr.value.numpy())
        return Bounded.exact(array) if array.dtype == np.float32 else array
    name = str(getattr(getattr(expr, "op", None), "name", type(expr).__name__))
    if name not in OPERATORS:
        raise BitExactError(
            f"operator {name}: expected one that the integer reference knows ({', '.join(sorted(OPERATORS))}); "
            "add its meaning to tvm_flow/numerics/reference.py"
        )
    return OPERATORS[name](expr, [_arguments(arg, env) for arg in expr.args])


_LITERALS = ("ShapeExpr", "IntImm", "FloatImm")


def _arguments(arg: Any, env: dict[Any, Value]) -> Any:
    """A tensor's value, a list of them for a tuple, or a literal as it stands."""
    if hasattr(arg, "fields"):
        return [_arguments(field, env) for field in arg.fields]
    return arg if type(arg).__name__ in _LITERALS else _evaluate(arg, env)


def _binary(on_floats: Callable[[Bounded, Bounded], Bounded], on_ints: Callable[[Array, Array], Array]) -> Any:
    def run(_expr: Any, args: list[Value]) -> Value:
        a, b = args
        if isinstance(a, Bounded) and isinstance(b, Bounded):
            return on_floats(a, b)
        if isinstance(a, Bounded) or isinstance(b, Bounded):
            raise BitExactError("binary operator: expected operands of one kind, got a float and an integer one")
        wide = on_ints(a.astype(np.int64), b.astype(np.int64))
        return _narrow(wide, a.dtype)

    return run


def _narrow(wide: Array, dtype: Any) -> Array:
    """int64 -> ``dtype``; leaving its range is an error, because the kernel would have wrapped."""
    limits = np.iinfo(dtype)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise BitExactError(f"integer result: expected values within {dtype}, got {wide.min()} to {wide.max()}")
    return wide.astype(dtype)


def _unary(on_floats: Callable[[Bounded], Bounded]) -> Any:
    return lambda _expr, args: on_floats(_float(args[0]))


def _float(value: Value) -> Bounded:
    if not isinstance(value, Bounded):
        raise BitExactError(f"float operator: expected a float tensor, got {value.dtype}")
    return value


def _cast(expr: Any, args: list[Value]) -> Value:
    dtype = str(expr.ty.dtype)
    value = args[0]
    if isinstance(value, Bounded):
        if dtype == "float32":
            return value
        return Rounded(value.value.astype(dtype), value.error)
    if dtype == "float32":
        exact = Bounded.exact(value)
        return exact if np.abs(exact.value).max(initial=0.0) <= 2**24 else bounded.rounded(exact.value, exact.error)
    return _narrow(value.astype(np.int64), dtype)


class Rounded(np.ndarray[Any, Any]):
    """Integer codes of a rounded float, with ``doubt``: how far the kernel may be from them (0 or 1)."""

    doubt: npt.NDArray[np.float64]

    def __new__(cls, codes: Array, doubt: npt.NDArray[np.float64]) -> Rounded:
        result = np.asarray(codes).view(cls)
        result.doubt = doubt
        return result

    def __array_finalize__(self, other: Any) -> None:
        self.doubt = getattr(other, "doubt", np.zeros(self.shape))


def _matmul(expr: Any, args: list[Value]) -> Value:
    a, b = args
    if isinstance(a, Bounded) and isinstance(b, Bounded):
        return bounded.matmul(a, b)
    if isinstance(a, Bounded) or isinstance(b, Bounded):
        raise BitExactError("matmul: expected operands of one kind, got a float and an integer one")
    # Every partial sum of int8 products is an integer far below 2^53, so float64 BLAS is exact.
    return _narrow((a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64), str(expr.ty.dtype))


def _move(change: Callable[[Any, Array], Array]) -> Any:
    """An operator that only moves elements: applied to values and bounds alike."""

    def run(expr: Any, args: list[Value]) -> Value:
        value = args[0]
        if isinstance(value, Bounded):
            return Bounded(change(expr, value.value), change(expr, value.error))
        if isinstance(value, Rounded):
            return Rounded(change(expr, np.asarray(value)), change(expr, value.doubt))
        return change(expr, value)

    return run


def _shape(expr: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expr.ty.shape)


def _slice(expr: Any, array: Array) -> Array:
    axes, begin, end, strides = ([_int(v) for v in part.fields] for part in expr.args[1:5])
    picked: list[slice] = [slice(None)] * array.ndim
    for axis, start, stop, step in zip(axes, begin, end, strides, strict=True):
        picked[axis] = slice(start, stop, step)
    return array[tuple(picked)]


def _int(value: Any) -> int:
    return int(getattr(value, "value", value))


def _concat(expr: Any, args: list[Any]) -> Value:
    axis, parts = int(expr.attrs.axis), args[0]
    if all(isinstance(p, Bounded) for p in parts):
        return Bounded(
            np.concatenate([p.value for p in parts], axis), np.concatenate([p.error for p in parts], axis)
        )
    return np.concatenate(parts, axis)


def _axes(expr: Any, value: Value) -> tuple[int, ...]:
    rank = value.value.ndim if isinstance(value, Bounded) else value.ndim
    axes = expr.attrs.axis
    return tuple(range(rank)) if axes is None else tuple(int(a) % rank for a in axes)


def _sum(expr: Any, args: list[Value]) -> Value:
    value, keep = args[0], bool(expr.attrs.keepdims)
    if isinstance(value, Bounded):
        return bounded.total(value, _axes(expr, value), keep)
    return _narrow(value.astype(np.int64).sum(axis=_axes(expr, value), keepdims=keep), value.dtype)


def _max(expr: Any, args: list[Value]) -> Value:
    value = _float(args[0])
    return bounded.largest(value, _axes(expr, value), bool(expr.attrs.keepdims))


def _clip(expr: Any, args: list[Value]) -> Value:
    low, high = (float(getattr(a, "value", a)) for a in expr.args[1:3])
    return bounded.clip(_float(args[0]), low, high)


def _exp(a: Bounded) -> Bounded:
    return bounded.exponential(a, EXP_RELATIVE, EXP_ABSOLUTE, EXP_UPPER)


OPERATORS: dict[str, Callable[[Any, list[Any]], Value]] = {
    "relax.add": _binary(bounded.add, np.add),
    "relax.subtract": _binary(bounded.subtract, np.subtract),
    "relax.multiply": _binary(bounded.multiply, np.multiply),
    "relax.divide": _binary(bounded.divide, np.floor_divide),
    "relax.sqrt": _unary(bounded.sqrt),
    "relax.exp": _unary(_exp),
    "relax.round": _unary(bounded.round_half_even),
    "relax.clip": _clip,
    "relax.astype": _cast,
    "relax.matmul": _matmul,
    "relax.sum": _sum,
    "relax.max": _max,
    "relax.reshape": _move(lambda expr, array: array.reshape(_shape(expr))),
    "relax.permute_dims": _move(lambda expr, array: array.transpose([int(a) for a in expr.attrs.axes])),
    "relax.strided_slice": _move(_slice),
    "relax.concat": _concat,
}
