"""What the variables of an imported graph stand for while it is rewritten to integers.

A variable is an ordinary expression, or one of three things that are not written out until something needs them:
`Codes` (a dequantize), `Accumulator` (an integer product still to be scaled), `Unsigned` (uint8 codes run as int8).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import ir, relax
from tvm.relax import op as R

from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.constants import (
    Array,
    Constant,
    Derived,
    Given,
    evaluate,
    given_names,
    same_bits,
    shape_and_dtype,
)
from tvm_flow.graph.lifted import Builder, LiftedGraph, dtype_of
from tvm_flow.graph.names import candidates


@dataclass(frozen=True, eq=False)
class Codes:
    """A quantized tensor: int8 (or, for a bias, int32) codes, their scale, and zero point (None when it is zero)."""

    q: Any
    scale: Any
    zero_point: Any | None
    axis: int | None
    """Channel axis of ``scale``; None for a per-tensor scale."""


@dataclass(frozen=True, eq=False)
class Accumulator:
    """An int32 tensor and the float32 multiplier that turns it into real values."""

    acc: Any
    multiplier: Any
    scales: tuple[Constant, Constant]
    limit: int
    """No value on the way to ``acc`` is larger in magnitude."""


@dataclass(frozen=True, eq=False)
class Unsigned:
    """uint8 codes held as int8 ones, 128 less."""

    q: Any


def check_scale(name: str, value: Array) -> None:
    """Raise ImportGraphError unless ``value`` is positive, finite, float32, and one or one per channel."""
    if value.dtype != np.float32 or value.ndim > 1 or not np.all(value > 0) or not np.isfinite(value).all():
        raise ImportGraphError(
            f"{name}: expected a positive float32 scale, or one per channel, got {value.dtype} of shape "
            f"{list(value.shape)} from {value.min()} to {value.max()}; quantize again"
        )


@dataclass
class Scope:
    """The function under construction and the meaning of every variable of the old one."""

    graph: LiftedGraph
    builder: Builder
    env: dict[Any, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    plain: dict[Any, Any] = field(default_factory=dict)
    """What `Codes` and the like were written out as, so that a second reader finds it."""
    decisive: set[str] = field(default_factory=set)
    """Initializers whose values have decided what was emitted."""
    scales: set[str] = field(default_factory=set)
    """Initializers that must be scales, whatever their values."""

    def resolve(self, expr: Any) -> Any:
        """``expr`` after the rewriting so far; an initializer becomes a parameter on first use."""
        if not isinstance(expr, relax.Var):
            return expr
        if expr not in self.env:
            self.env[expr] = self.builder.given(expr)
        return self.env[expr]

    def is_constant(self, expr: Any) -> bool:
        """True for a parameter of the new function that is not a graph input."""
        return self.builder.is_parameter(expr)

    def constant_of(self, expr: Any) -> Constant:
        """Provenance of a parameter of the new function."""
        if not self.is_constant(expr):
            raise ImportGraphError(
                f"{expr}: expected a constant scale, zero point or weight, got a computed value; quantize statically"
            )
        return self.builder.constants[expr.name]

    def array(self, expr: Any) -> Array:
        """Value of a constant expression, which may decide what is emitted."""
        if isinstance(expr, ir.Constant):
            return np.asarray(expr.value.numpy())
        return self.value(self.constant_of(expr))

    def value(self, constant: Constant) -> Array:
        """As `array`, of a constant's provenance."""
        self.decisive |= given_names(constant)
        return evaluate(constant, self.graph.given)

    def derive(self, hint: str, rule: str, *sources: Any, options: tuple[int, ...] = ()) -> Any:
        """A parameter computed from other parameters at build time, whose name tells of ``hint``."""
        constant = Derived(rule, tuple(self.constant_of(s) for s in sources), options)
        shape, dtype = shape_and_dtype(constant, self.graph.given)
        return self.builder.derived(hint, constant, shape, dtype)

    def as_parameter(self, expr: Any, stem: str) -> Any:
        """A literal as a parameter, so that rules can name it; anything else as it is."""
        if not isinstance(expr, ir.Constant):
            return expr
        value = self.array(expr)
        label = str(value.item()) if value.size == 1 else hashlib.sha256(value.tobytes()).hexdigest()[:12]
        given = self.graph.given
        name = next(n for n in candidates(f"{stem}.{label}") if n not in given or same_bits(given[n], value))
        given[name] = value
        return self.builder.parameter(name, Given(name), value.shape, str(value.dtype))

    def scale(self, expr: Any) -> Any:
        """The scale of a quantize or dequantize: a constant, float32, one or one per channel."""
        scale = self.as_parameter(self.resolve(expr), "scale")
        constant = self.constant_of(scale)
        check_scale(str(expr), evaluate(constant, self.graph.given))
        self.scales |= given_names(constant)
        return scale

    def signed(self, expr: Any) -> Any:
        """``expr`` (constant codes or zero point) as int8."""
        if dtype_of(expr) != "uint8":
            return expr
        return self.derive(f"{expr.name}.s8", "to_signed", expr)

    def zero_point(self, expr: Any, constant_codes: bool) -> Any | None:
        """int8 zero point, or None when the graph says it is zero for every step.

        A zero point stored beside constant codes is part of the model; one of an activation can differ from step to
        step, so only a literal zero (an omitted input) is dropped there and equal graphs stay equal.
        """
        if isinstance(expr, ir.Constant):
            value = self.array(expr)
            shifted = value.astype(np.int16) - (128 if str(value.dtype) == "uint8" else 0)
            return None if not shifted.any() else relax.const(shifted.astype(np.int8))
        resolved = self.resolve(expr)
        self.constant_of(resolved)
        resolved = self.signed(resolved)
        return None if constant_codes and not self.array(resolved).any() else resolved

    def cast(self, expr: Any, dtype: str) -> Any:
        """``expr`` as ``dtype``; a literal stays a literal, which kernels can hold and a cast of one they cannot."""
        if isinstance(expr, ir.Constant):
            return relax.const(self.array(expr).astype(dtype))
        return self.builder.emit(R.astype(expr, dtype))

    def unsigned(self, codes: Unsigned) -> Any:
        """The uint8 tensor that ``codes`` stands for."""
        wide = self.builder.emit(R.astype(codes.q, "int16"))
        return self.builder.emit(R.astype(self.builder.emit(R.add(wide, relax.const(128, "int16"))), "uint8"))
