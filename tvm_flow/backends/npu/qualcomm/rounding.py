"""What a linear for HTP should compute: the exact result, rounded once. The device may be 1 away, which is counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvm_flow.backends.npu.qualcomm.qdq import HtpLinear
from tvm_flow.errors import BitExactError
from tvm_flow.graph.constants import Array
from tvm_flow.numerics.integer_tables import gelu
from tvm_flow.numerics.quantize import accumulate


def rounded(linear: HtpLinear, x: Array) -> Array:
    """int16 [M, N] in the linear's unit, or int8 codes, of codes int8 [M, K], by float64 to the last rounding."""
    scale = np.float64(linear.x_scale) * linear.weight_scale.astype(np.float64)
    exact = accumulate(x, linear.weights.T).astype(np.float64) * scale + linear.bias
    if linear.step is None or linear.gain is None:
        return _codes(exact / np.float64(linear.unit), np.int16)
    return _codes(gelu(exact) * linear.gain.astype(np.float64) / np.float64(linear.step), np.int8)


def _codes(exact: Array, dtype: type[np.signedinteger]) -> Array:
    limits = np.iinfo(dtype)
    return np.clip(np.rint(exact), limits.min, limits.max).astype(dtype)


@dataclass
class Held:
    """Results that were compared, and how many of them are 1 away."""

    elements: int = 0
    away: int = 0

    def hold(self, what: str, expected: Array, got: Array) -> None:
        """Raises BitExactError naming ``what`` and the first element that is farther away."""
        if (expected.shape, expected.dtype) != (got.shape, got.dtype):
            raise BitExactError(f"{what}: expected {expected.dtype} {expected.shape}, got {got.dtype} {got.shape}")
        distance = np.abs(expected.astype(np.int32) - got)
        if distance.max(initial=0) > 1:
            at = tuple(map(int, np.argwhere(distance > 1)[0]))
            raise BitExactError(
                f"{what}: expected within 1 of {expected[at]} at {at}, got {got[at]}; {int((distance > 1).sum())} of "
                f"{distance.size} are farther away; leave this layer outside and report it"
            )
        self.elements += distance.size
        self.away += int(distance.sum())
