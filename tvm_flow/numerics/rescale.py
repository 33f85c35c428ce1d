"""TOSA's integer arithmetic: the second statement of what int8 means, beside `tvm_flow.numerics`.

RESCALE of x by multiplier m and shift s, in 64 bits (TOSA 1.0, apply_scale_32):

    SINGLE_ROUND   (x m + 2^(s-1)) >> s
    DOUBLE_ROUND   (x m + 2^(s-1) + (2^30 where x >= 0, -2^30 elsewhere, when s > 31)) >> s

then plus the output's zero point, clipped to its type; x must lie in [-2^(s-1), 2^(s-1)), or the graph is invalid. The
shift is arithmetic, so SINGLE_ROUND is floor(x m / 2^s + 1/2): ties go up. `tvm_flow.numerics.quantize` sends them to
even, and rounds a float32 product before; the two differ by at most one code.

TABLE of int16 has 513 entries, of which two are joined by a line: with i = (x >> 7) + 256 and f = x & 127 it gives
(t[i] << 7) + (t[i + 1] - t[i]) f, an int32 with 7 bits below the entries' unit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.errors import QuantizeError

Array = npt.NDArray[Any]
MULTIPLIER_BITS = 30
"""Of a multiplier: a float32 scale has 24, and 30 are the bits of a finite float, as a bundle's step tables want it."""
LEAST_SHIFT, MOST_SHIFT = 2, 62
TABLE_ENTRIES = 513


class Rounding(StrEnum):
    """RESCALE's rounding modes that Arm's tools agree on."""

    SINGLE = "SINGLE_ROUND"
    DOUBLE = "DOUBLE_ROUND"


def multiplier_and_shift(scale: npt.ArrayLike) -> tuple[Array, Array]:
    """int32 multipliers in [2^29, 2^30) and int8 shifts whose m / 2^s is nearest to float64 ``scale``.

    A float32 scale is met exactly. Below 2^-33 the shift stays at its greatest and the multiplier loses bits. Raises
    QuantizeError for what is not positive and finite, or 2^28 and more.
    """
    values = np.asarray(scale, np.float64)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise QuantizeError(f"scale: expected positive finite numbers, got {values.min()} to {values.max()}")
    fraction, exponent = np.frexp(values)
    multiplier = np.rint(fraction * (1 << MULTIPLIER_BITS)).astype(np.int64)
    full = multiplier == 1 << MULTIPLIER_BITS
    multiplier, exponent = np.where(full, multiplier // 2, multiplier), np.where(full, exponent + 1, exponent)
    shift = MULTIPLIER_BITS - exponent
    if (shift < LEAST_SHIFT).any():
        raise QuantizeError(f"scale: expected less than 2^{MULTIPLIER_BITS - LEAST_SHIFT}, got {values.max()}")
    excess = np.clip(shift - MOST_SHIFT, 0, 62)
    rounded = np.where(excess > 0, (multiplier + ((np.int64(1) << excess) >> 1)) >> excess, multiplier)
    return rounded.astype(np.int32), np.minimum(shift, MOST_SHIFT).astype(np.int8)


def rescale(
    x: Array,
    multiplier: Array,
    shift: Array,
    dtype: npt.DTypeLike = np.int8,
    rounding: Rounding = Rounding.SINGLE,
    zero: int = 0,
) -> Array:
    """RESCALE of integers ``x``, whose zero point is 0, to codes of zero point ``zero``.

    ``multiplier`` and ``shift`` broadcast to it.

    Raises QuantizeError for an ``x`` that TOSA forbids with such a shift.
    """
    wide, by = x.astype(np.int64), shift.astype(np.int64)
    room = np.broadcast_to(np.int64(1) << (by - 1), np.broadcast_shapes(wide.shape, by.shape))
    if ((wide < -room) | (wide >= room)).any():
        raise QuantizeError(
            f"rescale: expected values of less than 2^(shift - 1), at least {room.min()}, got {wide.min()} to "
            f"{wide.max()}; keep this layer in float"
        )
    half = room
    if rounding is Rounding.DOUBLE:
        half = half + np.where(by > 31, np.where(wide >= 0, 1 << 30, -(1 << 30)), 0)
    scaled = ((wide * multiplier.astype(np.int64) + half) >> by) + zero
    limits = np.iinfo(dtype)
    clipped: Array = np.clip(scaled, limits.min, limits.max).astype(dtype)
    return clipped


def looked_up(x: Array, table: Array) -> Array:
    """TABLE: int8 codes in 256 entries of int8 -> int8, or int16 ones in 513 entries of int16 -> int32."""
    if x.dtype == np.int8:
        found: Array = table[x.astype(np.int64) + 128]
        return found
    wide, entries = x.astype(np.int64), table.astype(np.int64)
    index, fraction = (wide >> 7) + 256, wide & 127
    joined: Array = ((entries[index] << 7) + (entries[index + 1] - entries[index]) * fraction).astype(np.int32)
    return joined
