"""How far two arrays are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def psnr_db(reference: Array, got: Array) -> float:
    """Peak signal to noise ratio of ``got``, dB; the peak is the range of ``reference``. Infinite for
    equal arrays."""
    peak = float(np.ptp(reference.astype(np.float64)))
    return _db(peak * peak, reference, got)


def sqnr_db(reference: Array, got: Array) -> float:
    """Signal to quantization noise ratio of ``got``, dB; the signal is the mean square of ``reference``."""
    return _db(float(np.mean(reference.astype(np.float64) ** 2)), reference, got)


def _db(signal: float, reference: Array, got: Array) -> float:
    noise = float(np.mean((reference.astype(np.float64) - got) ** 2))
    if not noise:
        return float("inf")
    return 10.0 * float(np.log10(signal / noise)) if signal else float("-inf")
