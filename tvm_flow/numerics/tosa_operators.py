"""TOSA's integer operators as one interface: what integer arithmetic is written with once, and two things do with it.

`NumpyOperators` computes at once, bit for bit what the specification says; the graph of a compiler for TOSA has methods
of the same names, and writes down what it is asked. A function of `IntegerOperators` therefore is the arithmetic: run
on arrays it is the reference of what the same function makes a device do.

Tensors of an elementwise operator have one rank. A sum or product that leaves int32 is an error here: TOSA leaves what
a device does then to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tvm_flow.errors import QuantizeError
from tvm_flow.numerics.quantize import accumulate
from tvm_flow.numerics.rescale import looked_up, rescale

Array = npt.NDArray[Any]
Elementwise = Literal["add", "sub", "maximum", "minimum"]
Shift = Literal["logical_left_shift", "arithmetic_right_shift"]
Reduction = Literal["reduce_sum", "reduce_max"]


class Tensor(Protocol):
    """What arithmetic asks of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...


V = TypeVar("V", bound=Tensor)


class IntegerOperators(Protocol[V]):
    """Operators on tensors of int8, int16 and int32."""

    def constant(self, array: Array) -> V:
        """One that is the same at every step: a table, a literal."""

    def given(self, array: Array) -> V:
        """A constant of the model or of a step, which a graph may take as an input."""

    def conv1x1(self, x: V, weight: V, bias: V) -> V:
        """int8 [1, H, W, K] and [N, 1, 1, K], int32 [N] -> int32 [1, H, W, N]."""

    def matmul(self, a: V, b: V, zero: int = 0) -> V:
        """int8 [B, M, K], less ``zero``, by int8 [B, K, N] -> int32."""

    def rescale(self, x: V, scale: tuple[V, V], dtype: str, zero: int = 0) -> V:
        """RESCALE by (multiplier, shift), [1] or along the last axis, to ``dtype`` with zero point ``zero``."""

    def table(self, x: V, table: V) -> V:
        """int16 by 513 entries of int16 -> int32 with 7 more bits."""

    def elementwise(self, operator: Elementwise, a: V, b: V) -> V:
        """Of two of one type."""

    def multiply(self, a: V, b: V, shift: int = 0) -> V:
        """Of two of one type, to int32; ``shift`` of int32 alone: (a b + 2^(shift - 1)) >> shift in 64 bits."""

    def shift(self, operator: Shift, x: V, by: V, rounded: bool = False) -> V:
        """int32; ``rounded`` adds half a unit before a right shift."""

    def clz(self, x: V) -> V:
        """Leading zeros of int32."""

    def magnitude(self, x: V) -> V:
        """ABS of int32."""

    def reduce(self, operator: Reduction, x: V, axis: int) -> V:
        """int32; the axis stays, of extent 1."""

    def cast(self, x: V, dtype: str) -> V:
        """Between integers, of values that both have."""

    def reshape(self, x: V, shape: tuple[int, ...]) -> V:
        """The same elements."""

    def transpose(self, x: V, axes: Sequence[int]) -> V:
        """Axis i of the result is axis ``axes[i]``."""

    def slice(self, x: V, axis: int, start: int, stop: int) -> V:
        """Part of an axis."""

    def concat(self, parts: Sequence[V], axis: int) -> V:
        """Joined along an axis."""


@dataclass(frozen=True)
class NumpyOperators:
    """On arrays, at once. Methods as `IntegerOperators` has them; raises QuantizeError for what TOSA leaves open."""

    def constant(self, array: Array) -> Array:
        return array

    def given(self, array: Array) -> Array:
        return array

    def conv1x1(self, x: Array, weight: Array, bias: Array) -> Array:
        return _int32(accumulate(x, weight[:, 0, 0]).astype(np.int64) + bias)

    def matmul(self, a: Array, b: Array, zero: int = 0) -> Array:
        # Sums of products of codes are whole numbers below 2^53.
        return _int32((a.astype(np.float64) - zero) @ b.astype(np.float64))

    def rescale(self, x: Array, scale: tuple[Array, Array], dtype: str, zero: int = 0) -> Array:
        return rescale(x, *scale, dtype, zero=zero)

    def table(self, x: Array, table: Array) -> Array:
        return looked_up(x, table)

    def elementwise(self, operator: Elementwise, a: Array, b: Array) -> Array:
        function = {"add": np.add, "sub": np.subtract, "maximum": np.maximum, "minimum": np.minimum}[operator]
        return _int32(function(a.astype(np.int64), b.astype(np.int64)))

    def multiply(self, a: Array, b: Array, shift: int = 0) -> Array:
        product = a.astype(np.int64) * b.astype(np.int64)
        return _int32(product if shift == 0 else (product + (1 << shift - 1)) >> shift)

    def shift(self, operator: Shift, x: Array, by: Array, rounded: bool = False) -> Array:
        wide = x.astype(np.int64)
        if by.size and (by.min() < 0 or by.max() > 31):
            raise QuantizeError(f"shift: expected 0 to 31, got {by.min()} to {by.max()}; report this graph")
        if operator == "logical_left_shift":
            return _int32(wide << by)
        half = np.where(by > 0, np.int64(1) << np.maximum(by - 1, 0), 0) if rounded else 0
        return _int32((wide + half) >> by)

    def clz(self, x: Array) -> Array:
        if x.size and x.min() < 0:
            raise QuantizeError(f"clz: expected numbers of 0 or more, got {x.min()}; report this graph")
        _, exponent = np.frexp(x.astype(np.float64))
        return (32 - exponent).astype(np.int32)

    def magnitude(self, x: Array) -> Array:
        return _int32(np.abs(x.astype(np.int64)))

    def reduce(self, operator: Reduction, x: Array, axis: int) -> Array:
        function = np.sum if operator == "reduce_sum" else np.max
        return _int32(function(x.astype(np.int64), axis=axis, keepdims=True))

    def cast(self, x: Array, dtype: str) -> Array:
        limits = np.iinfo(dtype)
        if x.size and (x.min() < limits.min or x.max() > limits.max):
            raise QuantizeError(f"cast: expected values of {dtype}, got {x.min()} to {x.max()}; report this graph")
        return x.astype(dtype)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return x.transpose(axes)

    def slice(self, x: Array, axis: int, start: int, stop: int) -> Array:
        return x[(*(slice(None) for _ in range(axis)), slice(start, stop))]

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        return np.concatenate(parts, axis)


def _int32(wide: Array) -> Array:
    """Whole numbers as int32; raises QuantizeError where they leave it."""
    if wide.size and (wide.min() < -(1 << 31) or wide.max() >= 1 << 31):
        raise QuantizeError(
            f"int32: expected values below 2^31, got {wide.min():.0f} to {wide.max():.0f}; keep this layer in float"
        )
    return wide.astype(np.int32)
