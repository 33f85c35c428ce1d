"""Integer codes that were rounded from floats, and how far a kernel may be from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.errors import BitExactError
from tvm_flow.numerics.bounded import Bounded

Array = npt.NDArray[Any]
Value = Array | Bounded
"""An integer array, or a bounded float."""


class Rounded(np.ndarray[Any, Any]):
    """Integer codes of a rounded float, with ``doubt``: how far the kernel may be from them."""

    doubt: npt.NDArray[np.float64]

    def __new__(cls, codes: Array, doubt: npt.NDArray[np.float64]) -> Rounded:
        result = np.asarray(codes).view(cls)
        result.doubt = doubt
        return result

    def __array_finalize__(self, other: Any) -> None:
        self.doubt = getattr(other, "doubt", np.zeros(self.shape))


def doubt_of(value: Array) -> npt.NDArray[np.float64]:
    """How far the kernel may be from an integer array: zero unless it was rounded from floats."""
    return value.doubt if isinstance(value, Rounded) else np.zeros(value.shape)


def with_doubt(codes: Array, doubt: npt.NDArray[np.float64]) -> Array:
    """``codes`` with ``doubt``, or plain where there is none."""
    return Rounded(codes, np.broadcast_to(doubt, codes.shape)) if doubt.any() else codes


def narrow(wide: Array, dtype: Any) -> Array:
    """int64 -> ``dtype``; raises BitExactError when a value leaves its range."""
    limits = np.iinfo(dtype)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise BitExactError(
            f"integer result: expected values within {np.dtype(dtype)}, got {wide.min()} to {wide.max()}; "
            "the kernel would wrap: keep this layer in float"
        )
    return wide.astype(dtype)
