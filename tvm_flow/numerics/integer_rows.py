"""Norms and attention in integers, of TOSA's operators alone: int32 and 16-bit tables, no division, no 64 bits.

Sources: a norm and a softmax whose reciprocals come from integers are I-BERT's (arXiv 2101.01321), which finds them by
Newton's iteration; normalising by leading zeros before a table is how gemmlowp and TensorFlow Lite do it, and how
their 16-bit softmax becomes TOSA.

A row x [C] of a norm, z = clz of its largest magnitude, k = ceil(log2 C):

    d   C x - sum x (LayerNorm), x (RMSNorm)                          exact
    d'  d << (z - 1) >> 16, rounded                                   15 bits: a norm does not see a row's scale
    S   sum of (d' d') >> k, rounded                                  in [2^(28 - k), 2^30 + C]
    y   S << 2 h, h = (clz(S) - 1) >> 1                               in [2^29, 2^31)
    r   table of 1 / sqrt(y / 2^29)
    out (d' << h) r, in steps of ``row_unit(C)``                      |out| <= sqrt(C)

The constant 1e-6 that a float norm adds to the mean square is left out: a row of zeros gives zeros without it, and any
other row of the models has a mean square that is larger by orders.

Attention of codes q, k, v, weights w and not probabilities, so that a row of 8 bits has all of them in use:

    a   q k^T, + the mask; less the largest of the row                exact
    w   rint(255 table exp(a scale)) in [0, 255]                      8 bits less a zero point of -128
    n   sum w, at least 255;  m = w v
    r   table of 1 / y, y = n << (clz(n) - 1) in [2^30, 2^31)
    out (m << (clz(n) - 8)) r >> 31 = m / n in steps of `MEAN_UNIT`   |m / n| <= 128
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Generic

import numpy as np

from tvm_flow.errors import QuantizeError
from tvm_flow.numerics.integer_tables import ONE, UNIT, exp_table, reciprocal_table, root_table
from tvm_flow.numerics.rescale import multiplier_and_shift
from tvm_flow.numerics.tosa_operators import Array, IntegerOperators, V

MEAN_UNIT = 2.0**-14 * 32768 / 32767
"""Of attention's result, in codes of v."""
MASKED = -(1 << 28)
"""Added to the scores of what is not to be seen; 0 elsewhere."""
_WEIGHTS = 255
_PRODUCT_SHIFT = 18


def scaling(ops: IntegerOperators[V], scale: float | Array) -> tuple[V, V]:
    """RESCALE's operands for a scale, or one for each of the last axis."""
    multiplier, shift = multiplier_and_shift(np.asarray(scale, np.float64).reshape(-1))
    return ops.given(multiplier), ops.given(shift)


def row_unit(channels: int) -> float:
    """The step of `unit_rows`, a power of two: 16 bits hold sqrt(channels)."""
    return float(2.0 ** (ceil(log2(sqrt(channels))) - 15)) if channels > 1 else 2.0**-14


def _number(ops: IntegerOperators[V], value: int, rank: int) -> V:
    return ops.constant(np.full((1,) * rank, value, np.int32))


def unit_rows(ops: IntegerOperators[V], x: V, centered: bool) -> V:
    """int16 [..., C] -> int16 of the same shape in steps of ``row_unit(C)``: each row by its root mean square.

    ``centered``: less its mean before, as LayerNorm does.
    """
    rank, last = len(x.shape), len(x.shape) - 1
    channels = x.shape[last]
    bits = ceil(log2(channels)) if channels > 1 else 1
    d = ops.cast(x, "int32")
    if centered:
        total = ops.reduce("reduce_sum", d, last)
        d = ops.elementwise("sub", ops.multiply(d, _number(ops, channels, rank)), total)
    zeros = ops.clz(ops.reduce("reduce_max", ops.magnitude(d), last))
    d = ops.shift("logical_left_shift", d, ops.elementwise("sub", zeros, _number(ops, 1, rank)))
    d = ops.shift("arithmetic_right_shift", d, _number(ops, 16, rank), rounded=True)
    square = ops.reduce("reduce_sum", ops.multiply(d, d, bits), last)
    even = ops.elementwise("sub", ops.clz(square), _number(ops, 1, rank))
    half = ops.shift("arithmetic_right_shift", even, _number(ops, 1, rank))
    y = ops.shift("logical_left_shift", square, ops.elementwise("add", half, half))
    index = ops.shift("arithmetic_right_shift", y, _number(ops, 15, rank))
    index = ops.cast(ops.elementwise("sub", index, _number(ops, 1 << 15, rank)), "int16")
    root = ops.table(index, ops.constant(root_table()))
    rows = ops.multiply(ops.shift("logical_left_shift", d, half), root, _PRODUCT_SHIFT)
    step = sqrt(channels) * 2.0 ** (_PRODUCT_SHIFT - 14.5 - bits / 2) / ONE
    return ops.rescale(rows, scaling(ops, step / row_unit(channels)), "int16")


@dataclass(frozen=True)
class Attended(Generic[V]):
    """Codes int8: q [G, M, d], k transposed [G, d, L], v [G, L, d]; ``mask`` int32 [G or 1, 1, L] or None."""

    q: V
    k: V
    v: V
    mask: V | None = None


def attention(ops: IntegerOperators[V], given: Attended[V], scale: float) -> V:
    """int32 [G, M, d] in `MEAN_UNIT` of v's codes: softmax(scale q k^T + mask) v.

    Raises QuantizeError where a mask could not be told from a score: ``scale`` below 2^-24.
    """
    if scale * -MASKED < UNIT * (1 << 15):
        raise QuantizeError(f"scores: expected a scale of 2^-24 or more, got {scale}; keep this layer in float")
    scores, length = ops.matmul(given.q, given.k), given.v.shape[1]
    if given.mask is not None:
        scores = ops.elementwise("add", scores, given.mask)
    below = ops.elementwise("sub", scores, ops.reduce("reduce_max", scores, 2))
    # Beyond 16 all is 0, and RESCALE takes no number of any size.
    least = ops.given(np.full((1, 1, 1), -ceil(2**15 * UNIT / scale), np.int32))
    codes = ops.rescale(ops.elementwise("maximum", below, least), scaling(ops, scale / UNIT), "int16")
    powers = ops.table(codes, ops.constant(exp_table()))
    weights = ops.rescale(powers, scaling(ops, _WEIGHTS / ONE), "int8", zero=-128)
    sums = ops.reduce("reduce_sum", ops.cast(weights, "int32"), 2)
    total = ops.elementwise("add", sums, _number(ops, 128 * length, 3))
    return _divided(ops, ops.matmul(weights, given.v, zero=-128), total)


def _divided(ops: IntegerOperators[V], mixed: V, total: V) -> V:
    zeros = ops.clz(total)
    y = ops.shift("logical_left_shift", total, ops.elementwise("sub", zeros, _number(ops, 1, 3)))
    index = ops.shift("arithmetic_right_shift", y, _number(ops, 14, 3))
    index = ops.cast(ops.elementwise("sub", index, _number(ops, 3 << 15, 3)), "int16")
    reciprocal = ops.table(index, ops.constant(reciprocal_table()))
    wide = ops.shift("logical_left_shift", mixed, ops.elementwise("sub", zeros, _number(ops, 8, 3)))
    return ops.multiply(wide, reciprocal, 31)
