"""Float tensors as a float64 value and a bound on how far a single-precision kernel may be from it.

Running error analysis (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3): with the unit
roundoff u = 2^-24 of float32, fl(a op b) = (a op b)(1 + d), |d| <= u, and the bounds of the operands carried along:

    a + b    e_a + e_b + u (|a + b| + e_a + e_b)
    a * b    |a| e_b + |b| e_a + e_a e_b + u (|a b| + the same)
    a / b    (e_a + |a / b| e_b) / (|b| - e_b) + u (|a / b| + the same); unbounded when |b| <= e_b
    sqrt a   e_a / (sqrt(a) + sqrt(a - e_a)) + u (...); unbounded when a < e_a
    sum      sum of e + (n - 1) u / (1 - (n - 1) u) * sum(|x| + e), in whatever order the kernel adds
    exp a    exp(a) (exp(e_a) - 1) + the kernel's own relative error, see `tvm_flow.numerics.reference`

The float64 evaluation itself is wrong by at most 2^-29 of these, which `SLACK` covers. Fused multiply-add only leaves
roundings out, so the bounds hold for it too. Results below the normal range are off by at most `TINY` more.

A value that is infinite for sure, because all that it can be is beyond float32, is infinite with an error of 0; one
that may or may not be has an infinite error. NaN is what the kernel must give too: an operator's result is NaN where
one of its operands is, a maximum, a minimum or a largest of many no less (what IEEE 754 calls maximum, and not
maximumNumber); only a code cannot be, see `tvm_flow.numerics.quantize`.

Softmax has a bound that no error of its scores exceeds: a score less the largest of its row is at most 0 in the kernel
too, where it is 0 once, so its exponential is at most 1 and is 1 once, their sum is at least 1, and a share at most 1.
`Bounded.rows` follows that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
U = 2.0**-24
TINY = 2.0**-126
SLACK = 1.0 + 2.0**-20
LARGEST = float(np.finfo(np.float32).max)
ONE = 1.0 + 2.0**-20
"""What a number of at most 1 can be after a few roundings."""
BELOW_PEAK, WEIGHTS, TOTAL = "less its row's largest", "of softmax, before they are divided", "sum of a row of weights"


@dataclass(frozen=True)
class Bounded:
    """Values float64 and absolute error bounds float64, of one shape."""

    value: Floats
    error: Floats
    rows: Bounded | str = ""
    """What is known of rows: of a maximum, what it is the maximum of; else a stage of softmax, or nothing."""

    @staticmethod
    def exact(value: npt.ArrayLike) -> Bounded:
        """Something the kernel reads, and so has without error."""
        array = np.asarray(value, np.float64)
        return Bounded(array, np.zeros(array.shape))

    def reshape(self, *shape: int) -> Bounded:
        """Both parts reshaped."""
        return Bounded(self.value.reshape(shape), self.error.reshape(shape))


def rounded(value: Floats, error: Floats) -> Bounded:
    """``value`` after one float32 rounding on top of ``error``; an error that is not a number is unbounded."""
    error = np.where(np.isnan(error), np.inf, error)
    inexact = (value != 0) | (error != 0)
    reach = np.abs(value) + error
    whole = (error + U * reach) * SLACK + np.where(inexact, TINY, 0.0)
    if np.max(reach, initial=0.0) <= LARGEST:
        return Bounded(value, whole)
    with np.errstate(invalid="ignore"):
        return overflowed(value, whole, np.abs(value) - error > LARGEST * (1 + U))


def overflowed(value: Floats, error: Floats, sure: npt.NDArray[np.bool_]) -> Bounded:
    """``value`` where float32 ends: infinite where that is ``sure``, anything where it is not ruled out."""
    error = np.where(np.abs(value) + error <= LARGEST, error, np.inf)
    return Bounded(np.where(sure, np.copysign(np.inf, value), value), np.where(sure, 0.0, error))


def add(a: Bounded, b: Bounded) -> Bounded:
    """a + b; exact between whole numbers that single precision holds, such as codes and zero points."""
    with np.errstate(invalid="ignore"):
        value, error = a.value + b.value, a.error + b.error
    if _whole(a.value) and _whole(b.value) and _whole(error) and np.max(np.abs(value) + error, initial=0.0) < 2.0**24:
        return Bounded(value, error)
    return rounded(value, error)


def _whole(x: Floats) -> bool:
    """True when all of ``x`` are integers; a first element that is not settles it cheaply."""
    return x.size == 0 or (float(x.flat[0]).is_integer() and bool(np.all(x == np.rint(x))))


def subtract(a: Bounded, b: Bounded) -> Bounded:
    """a - b."""
    with np.errstate(invalid="ignore"):
        result = rounded(a.value - b.value, a.error + b.error)
    return replace(result, rows=BELOW_PEAK) if b.rows is a else result


def multiply(a: Bounded, b: Bounded) -> Bounded:
    """a * b."""
    with np.errstate(invalid="ignore"):
        error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
        return rounded(a.value * b.value, np.where((a.error == 0) & (b.error == 0), 0.0, error))


def divide(a: Bounded, b: Bounded) -> Bounded:
    """a / b; the bound is infinite where b may be zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = a.value / b.value
        room = np.maximum(np.abs(b.value) - b.error, 1.0 if b.rows == TOTAL else -np.inf)
        error = np.where(room > 0, (a.error + np.abs(quotient) * b.error) / room, np.inf)
    result = rounded(quotient, error)
    return _within(result, 0.0, ONE) if (a.rows, b.rows) == (WEIGHTS, TOTAL) else result


def _within(a: Bounded, low: float, high: float, rows: str = "") -> Bounded:
    """``a``, which the kernel gives between ``low`` and ``high``."""
    return Bounded(a.value, np.minimum(a.error, np.maximum(a.value - low, high - a.value)), rows)


def maximum(a: Bounded, b: Bounded) -> Bounded:
    """The larger of two; no rounding."""
    value = np.maximum(a.value, b.value)
    with np.errstate(invalid="ignore"):
        above = np.maximum(a.value + a.error, b.value + b.error) - value
        below = value - np.maximum(a.value - a.error, b.value - b.error)
    exact = np.where((a.error == 0) & (b.error == 0), 0.0, np.maximum(above, below) * SLACK)
    return Bounded(value, np.where(np.isnan(exact), np.inf, exact))


def minimum(a: Bounded, b: Bounded) -> Bounded:
    """The smaller of two; no rounding."""
    flipped = maximum(Bounded(-a.value, a.error), Bounded(-b.value, b.error))
    return Bounded(-flipped.value, flipped.error)


def sqrt(a: Bounded) -> Bounded:
    """Square root; the bound is infinite where the kernel may see a negative number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(a.value)
        error = np.where(a.error > 0, a.error / (root + np.sqrt(a.value - a.error)), 0.0)
    return rounded(root, np.where(a.value < a.error, np.inf, error))


def total(a: Bounded, axes: tuple[int, ...], keepdims: bool) -> Bounded:
    """Sum over ``axes`` in any order."""
    count = int(np.prod([a.value.shape[axis] for axis in axes]))
    growth = (count - 1) * U / (1.0 - (count - 1) * U)
    magnitude = (np.abs(a.value) + a.error).sum(axis=axes, keepdims=keepdims)
    error = a.error.sum(axis=axes, keepdims=keepdims) + growth * magnitude
    error = np.where(magnitude <= LARGEST, error, np.inf)
    result = Bounded(a.value.sum(axis=axes, keepdims=keepdims), error * SLACK)
    if a.rows == WEIGHTS and axes == (a.value.ndim - 1,):
        return _within(result, 1.0, count * ONE * (1.0 + growth), TOTAL)
    return result


def matmul(a: Bounded, b: Bounded) -> Bounded:
    """Matrix product with single-precision products and sums in any order."""
    value = a.value @ b.value
    size_a, size_b = np.abs(a.value) + a.error, np.abs(b.value) + b.error
    depth = a.value.shape[-1]
    growth = depth * U / (1.0 - depth * U)
    with np.errstate(invalid="ignore"):
        reach = size_a @ size_b
        error = size_a @ b.error + a.error @ size_b + growth * reach
    return Bounded(value, np.where(np.isnan(error) | ~(reach <= LARGEST), np.inf, error) * SLACK + TINY)


def largest(a: Bounded, axes: tuple[int, ...], keepdims: bool) -> Bounded:
    """Maximum over ``axes``; no rounding."""
    with np.errstate(invalid="ignore"):
        value, above, below = (
            part.max(axis=axes, keepdims=keepdims) for part in (a.value, a.value + a.error, a.value - a.error)
        )
        error = np.where((above == value) & (below == value), 0.0, np.maximum(above - value, value - below))
    along_rows = keepdims and axes == (a.value.ndim - 1,)
    return Bounded(value, error * SLACK, a if along_rows else "")


def exponential(a: Bounded, relative: float, absolute: float) -> Bounded:
    """exp by a kernel of the given own errors, which overflows to infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        value = np.exp(a.value)
        # Where exp(a) underflows even in float64, exp(a + error) need not.
        inherited = np.where(value > 0, value * np.expm1(a.error), np.exp(a.value + a.error))
        error = inherited + relative * (value + inherited) + absolute
        error = np.where(np.isnan(error), np.inf, error) * SLACK
        if a.rows == BELOW_PEAK:
            return _within(Bounded(value, error), 0.0, ONE, WEIGHTS)
        if np.max(value + error, initial=0.0) <= LARGEST:
            return Bounded(value, error)
        return overflowed(value, error, np.exp(a.value - a.error) * (1 - 2 * relative) > LARGEST)


def round_half_even(a: Bounded) -> Bounded:
    """rint; the bound is 0 where no tie lies within the error, else the distance to the other integer."""
    value = np.rint(a.value)
    with np.errstate(invalid="ignore"):
        low, high = np.rint(a.value - a.error), np.rint(a.value + a.error)
        return Bounded(value, np.where((high == value) & (low == value), 0.0, np.maximum(high - value, value - low)))


def clip(a: Bounded, low: float, high: float) -> Bounded:
    """Saturate; a value that saturates on both sides of its error is certain."""
    value = np.clip(a.value, low, high)
    with np.errstate(invalid="ignore"):  # an infinity whose error is one: NaN, which nothing agrees with
        above, below = np.clip(a.value + a.error, low, high), np.clip(a.value - a.error, low, high)
        return Bounded(value, np.maximum(above - value, value - below))
