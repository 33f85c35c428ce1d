"""The larger or smaller of two floats, NaN where one of them is: TVM's own take the other.

A comparison with NaN is false, so each is written as the choice that a false comparison makes right; TVM's own take the
second operand then, which with a constant first is all that it needs.
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx, topi


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


def _or_nan(condition: Any, b: Any) -> Any:
    return tirx.Or(condition, tirx.isnan(b))  # TVM takes b != b for false


def _elementwise(choose: Any, a: Any, b: Any, name: str) -> Any:
    if not isinstance(a, te.Tensor):
        a, b = b, a
    if not isinstance(b, te.Tensor):
        return te.compute(a.shape, lambda *i: choose(a(*i), b), name=name)
    shape = topi.add(a, b).shape
    a, b = (topi.broadcast_to(x, shape) for x in (a, b))
    return te.compute(shape, lambda *i: choose(a(*i), b(*i)), name=name)
