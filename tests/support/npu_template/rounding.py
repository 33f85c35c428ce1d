"""The device's arithmetic, as its manual has it: sums in int32, shifted by 8 with ties upwards, saturated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.numerics.rounded import Rounded

Array = npt.NDArray[Any]
SHIFT = 8
NAME = "shifted"


def shifted(inputs: list[Array]) -> Rounded:
    """int8 [M, N] of int8 [M, K] and weights that lie as [N, K]."""
    x, weights = inputs
    sums = x.astype(np.int64) @ weights.T.astype(np.int64)
    codes = np.clip((sums + (1 << (SHIFT - 1))) >> SHIFT, -128, 127).astype(np.int8)
    return Rounded(codes, np.zeros(codes.shape))
