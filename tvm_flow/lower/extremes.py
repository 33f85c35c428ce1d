"""The larger or smaller of floats, NaN where one of them is: TVM's own take the other.

A comparison with NaN is false, so each is written as the choice that a false comparison makes right; TVM's own take the
second operand then, which with a constant first is all that it needs. NaN is told by its bits, as vectors can.

Of the largest of many, the order is that of int32: a float's bits, all but the sign turned over where it is negative,
are ordered as the floats are, and those of a NaN without its sign are beyond infinity's. So the reduction is TVM's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx, topi

MAGNITUDE, INFINITY = 0x7FFFFFFF, 0x7F800000
"""Bits of a float: all but the sign; of infinity."""


def larger(a: Any, b: Any) -> Any:
    """float32 expression for the maximum."""
    return tirx.max(b, a) if isinstance(b, tirx.FloatImm) else tirx.Select(_or_nan(a <= b, b), b, a)


def smaller(a: Any, b: Any) -> Any:
    """float32 expression for the minimum."""
    return tirx.min(b, a) if isinstance(b, tirx.FloatImm) else tirx.Select(_or_nan(a >= b, b), b, a)


def te_maximum(a: Any, b: Any) -> Any:
    """Tensor expression of `larger`, elementwise with broadcasting; ``b`` may be a scalar."""
    return _elementwise(larger, a, b, "maximum")


def te_minimum(a: Any, b: Any) -> Any:
    """Tensor expression of `smaller`, elementwise with broadcasting; ``b`` may be a scalar."""
    return _elementwise(smaller, a, b, "minimum")


def te_largest(x: Any, axes: Sequence[int], keepdims: bool) -> Any:
    """Tensor expression of the maximum over ``axes``, none negative."""
    keys = te.compute(x.shape, lambda *i: _key(x(*i)), name="key")
    largest = topi.max(keys, list(axes), keepdims)
    return te.compute(largest.shape, lambda *i: tirx.reinterpret("float32", _turned(largest(*i))), name="largest")


def _key(x: Any) -> Any:
    bits = tirx.reinterpret("int32", x)
    return tirx.Select(_is_nan(x), bits & _i32(MAGNITUDE), _turned(bits))


def _turned(bits: Any) -> Any:
    """Its own inverse; a NaN's key is positive, and stays."""
    return bits ^ (tirx.shift_right(bits, _i32(31)) & _i32(MAGNITUDE))


def _or_nan(condition: Any, b: Any) -> Any:
    return tirx.Or(condition, _is_nan(b))


def _is_nan(x: Any) -> Any:
    """By the bits: TVM takes x != x for false, and its own test keeps loops from becoming vectors."""
    return (tirx.reinterpret("int32", x) & _i32(MAGNITUDE)) > _i32(INFINITY)


def _i32(value: int) -> Any:
    return tirx.const(value, "int32")


def _elementwise(choose: Any, a: Any, b: Any, name: str) -> Any:
    if not isinstance(a, te.Tensor):
        a, b = b, a
    if not isinstance(b, te.Tensor):
        return te.compute(a.shape, lambda *i: choose(a(*i), b), name=name)
    shape = topi.add(a, b).shape
    a, b = (topi.broadcast_to(x, shape) for x in (a, b))
    return te.compute(shape, lambda *i: choose(a(*i), b(*i)), name=name)
