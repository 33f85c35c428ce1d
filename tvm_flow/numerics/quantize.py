"""Quantize, accumulate, requantize: the one statement of the int8 arithmetic, in numpy.

Every backend is compared with these functions, so each says how often it rounds and in which type. The
formulas are those of the ONNX operators QuantizeLinear and DequantizeLinear (opset 13 and later):

    q = saturate(round_half_even(x / scale) + zero_point)        x = (q - zero_point) * scale

``x / scale`` is ONE float32 division: a multiplication by the reciprocal gives other integers near a tie.

Scales are positive normal float32 numbers. A range whose scale would be smaller than the least normal number
(1.2e-38) counts as a zero range and gets scale 1.0: its values quantize to the zero point, whether or not a
machine flushes denormals to zero.

ONNX lets NaN and infinities through with an undefined result; here they raise QuantizeError, because an
integer model cannot show where they came from. A kernel cannot raise: on every target it makes the largest code
of NaN (127, or 255 of uint8), and saturates infinities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tvm_flow.errors import QuantizeError

Integers = NDArray[np.integer[Any]]

LEAST_SCALE = np.finfo(np.float32).tiny
_EXACT_DTYPES = tuple(np.dtype(name) for name in ("int8", "uint8", "int16", "uint16"))


def quantize(x: ArrayLike, scale: ArrayLike, zero_point: ArrayLike = 0, dtype: DTypeLike = np.int8) -> Integers:
    """saturate(rint(x / scale) + zero_point); float32 division, ties to even.

    ``x`` any shape, taken as float32; ``scale`` and ``zero_point`` broadcast to it (for weights [N, K] pass
    scales [N, 1]); ``dtype`` int8, uint8, int16 or uint16 -> integers of that type in the shape of ``x``.

    Raises QuantizeError for NaN or infinity in ``x``, for a scale that is not a positive normal float32, and
    for a zero point or type that does not fit.
    """
    values, scales = _finite(x, "x"), _scales(scale)
    info, zero = _bounds(dtype), np.asarray(zero_point)
    if np.any(zero < info.min) or np.any(zero > info.max):
        raise QuantizeError(
            f"zero_point: expected {info.min} to {info.max} for {info.dtype}, got {zero.min()} to {zero.max()}"
        )
    # A quotient beyond float32 becomes infinite, and saturates like any other.
    with np.errstate(over="ignore"):
        rounded = np.rint(values / scales) + zero.astype(np.float32)
    clipped: Integers = np.clip(rounded, info.min, info.max).astype(info.dtype)
    return clipped


def dequantize(q: Integers, scale: ArrayLike, zero_point: ArrayLike = 0) -> NDArray[np.float32]:
    """(q - zero_point) * scale: exact difference, one float32 product; shapes and errors as ``quantize``.

    The outermost codes of a range that nearly fills float32 can lie beyond it, and are infinite.
    """
    difference = np.asarray(q).astype(np.int64) - np.asarray(zero_point).astype(np.int64)
    with np.errstate(over="ignore"):
        return difference.astype(np.float32) * _scales(scale)


def greatest_code(bits: int) -> int:
    """Greatest magnitude of a symmetric number of ``bits`` bits, 127 for 8; -128 stays unused, so that negation never
    overflows.
    """
    return (1 << (bits - 1)) - 1


def weight_scale(weight: ArrayLike, bits: int = 8) -> NDArray[np.float32]:
    """Symmetric scale of each output channel: max_k |w[n, k]| / 127 -> float32 [N] for ``weight`` [N, K].

    With fewer ``bits`` 127 is 2^(bits - 1) - 1. With it ``quantize`` never gives -128. A channel of zeros (see the
    module on zero ranges) gets 1.0.
    Raises QuantizeError for NaN, infinity or another number of axes than two.
    """
    values = _finite(weight, "weight")
    if values.ndim != 2 or 0 in values.shape:
        raise QuantizeError(f"weight: expected a non-empty [out, in] matrix, got shape {values.shape}")
    scale = np.abs(values).max(axis=1) / np.float32(greatest_code(bits))
    return np.where(scale < LEAST_SCALE, np.float32(1), scale).astype(np.float32)


def activation_scale(lo: float, hi: float, symmetric: bool = True, bits: int = 8) -> tuple[np.float32, int]:
    """Scale and zero point of an int8 tensor whose values lie in [lo, hi].

    symmetric     scale = max(|lo|, |hi|) / 127, zero point 0
    asymmetric    the range is widened to contain 0, so that 0 stays exact; scale = (hi - lo) / 255,
                  zero point = rint(-128 - lo / scale); rounding it costs the ends of the range no more than
                  the half step that any value may lose

    With fewer ``bits`` 127, 128 and 255 are 2^(bits - 1) - 1, 2^(bits - 1) and 2^bits - 1. Computed in float64, scale
    rounded to float32 last. Zero ranges give (1.0, 0).
    Raises QuantizeError when a bound is not finite in float32 or lo > hi.
    """
    bounds = _finite([lo, hi], "activation range").astype(np.float64)
    if bounds[0] > bounds[1]:
        raise QuantizeError(f"activation range: expected lo <= hi, got [{lo}, {hi}]; were min and max swapped?")
    if symmetric:
        scale = np.float32(np.abs(bounds).max() / greatest_code(bits))
        return (scale, 0) if scale >= LEAST_SCALE else (np.float32(1), 0)
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    least, most = -greatest_code(bits) - 1, greatest_code(bits)
    scale = np.float32((high - low) / (most - least))
    if scale < LEAST_SCALE:
        return np.float32(1), 0
    return scale, int(np.clip(np.rint(least - low / np.float64(scale)), least, most))


def accumulate(xq: Integers, wq: Integers, zero_point: int = 0) -> NDArray[np.int32]:
    """sum_k (xq[m, k] - zero_point) * wq[n, k], exact: [..., M, K] and [N, K] -> int32 [..., M, N].

    Summed in float64, where every partial sum is an integer below 2^53 and so exact in any order (and a
    few times faster than numpy's int64 product). Raises QuantizeError for operands wider than 16 bits,
    for unequal K, and when a sum leaves int32, which a kernel would wrap silently.
    """
    for name, operand in (("xq", xq), ("wq", wq)):
        if operand.dtype not in _EXACT_DTYPES:
            raise QuantizeError(f"{name}: expected integers of 8 or 16 bits, got {operand.dtype}")
    depth = xq.shape[-1]
    if wq.ndim != 2 or wq.shape[1] != depth or depth > 2**20:
        raise QuantizeError(f"wq: expected [N, {depth}] with K at most 2^20 like xq, got shape {wq.shape}")
    total = (xq.astype(np.float64) - float(zero_point)) @ wq.T.astype(np.float64)
    info = np.iinfo(np.int32)
    if total.size and (total.min() < info.min or total.max() > info.max):
        raise QuantizeError(
            f"accumulator: expected sums within int32, got {total.min():.0f} to {total.max():.0f} "
            f"over K = {depth}; keep this layer in float (recipe: keep_float)"
        )
    return total.astype(np.int32)


def requantize(acc: Integers, multiplier: ArrayLike, zero_point: ArrayLike = 0) -> NDArray[np.int8]:
    """saturate(rint(float32(acc) * multiplier) + zero_point) to int8.

    ``acc`` int32 [..., N] is rounded to float32 first (above 2^24 it has more bits), then there is one
    float32 product with ``multiplier`` (a scalar or [N]: input scale * weight scale / output scale), and ties
    go to even. Raises QuantizeError for a multiplier that is not a positive normal float32.
    """
    with np.errstate(over="ignore"):
        product = np.asarray(acc).astype(np.float32) * _scales(multiplier)
    rounded = np.rint(product) + np.asarray(zero_point).astype(np.float32)
    clipped: NDArray[np.int8] = np.clip(rounded, -128, 127).astype(np.int8)
    return clipped


def _finite(x: ArrayLike, name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = np.asarray(x).astype(np.float32)
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise QuantizeError(
            f"{name}: expected finite float32 values, got {bad} of {values.size} NaN or infinite; "
            f"look for an overflow in the float model"
        )
    return values


def _scales(scale: ArrayLike) -> NDArray[np.float32]:
    scales = np.asarray(scale).astype(np.float32)
    if not (np.isfinite(scales).all() and (scales >= LEAST_SCALE).all()):
        raise QuantizeError(
            f"scale: expected positive normal float32 numbers, got {scales.min()} to {scales.max()}; "
            f"a zero range has scale 1.0"
        )
    return scales


def _bounds(dtype: DTypeLike) -> np.iinfo[Any]:
    if np.dtype(dtype) not in _EXACT_DTYPES:
        names = ", ".join(str(each) for each in _EXACT_DTYPES)
        raise QuantizeError(f"dtype: expected one of {names}, got {np.dtype(dtype)}")
    return np.iinfo(np.dtype(dtype))
