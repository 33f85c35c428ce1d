"""Linears for Qualcomm's HTP in tests, and whether there is one."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_flow.backends.npu.qualcomm.qdq import HtpLinear
from tvm_flow.toolchain.qualcomm import missing_package

needs_htp = pytest.mark.skipif(bool(missing_package()), reason=f"extra npu-qualcomm: {missing_package()}")


def htp_linear(m: int, k: int, n: int, codes: bool | int = False, seed: int = 0) -> HtpLinear:
    """A random one, whose results are a few units of what they are used as."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (k, n), dtype=np.int8)
    scale = (rng.uniform(0.2, 1.0, n) * 3 / (73 * np.sqrt(k))).astype(np.float32)
    bias = rng.normal(0, 0.5, n).astype(np.float32)
    after = (rng.uniform(0.5, 2.0, n).astype(np.float32), np.float32(0.03)) if codes else (None, None)
    return HtpLinear(m, np.float32(0.0173), weights, scale / np.float32(0.0173 * 73), bias, *after)


def codes_for(linear: HtpLinear, seed: int = 1) -> np.ndarray:
    """Random codes, the least and the greatest among them."""
    found = np.random.default_rng(seed).integers(-128, 128, (linear.rows, linear.weights.shape[0]), dtype=np.int8)
    found.reshape(-1)[:2] = (-128, 127)[: found.size]
    return found
