"""Sizes on an AArch64 board, and their limits."""

from __future__ import annotations

import json

import pytest

from tvm_flow.bench.__main__ import main
from tvm_flow.bench.size import NPU_LIMIT, RUNTIME_LIMIT, SIGNATURE_LIMIT, VULKAN_LIMIT

SIZES = ["runtime_bytes", "vulkan_bytes", "npu_bytes", "signature_bytes", "library_bytes"]
KEYS = [*SIZES, "peak_over_weights_bytes", "liveness_bound_bytes"]
PEAK_LIMIT = 1.1


def test_sizes_stay_within_their_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["size"]) == 0
    (text,) = capsys.readouterr().out.splitlines()
    line = json.loads(text)
    assert list(line) == KEYS
    assert 0 < line["runtime_bytes"] <= RUNTIME_LIMIT <= 53_500
    assert 0 < line["vulkan_bytes"] <= VULKAN_LIMIT <= 40_000
    assert 0 < line["npu_bytes"] <= NPU_LIMIT <= 40_000
    assert 0 < line["signature_bytes"] <= SIGNATURE_LIMIT <= 15_000
    assert line["library_bytes"] > 0
    assert 0 < line["liveness_bound_bytes"] <= line["peak_over_weights_bytes"]
    assert line["peak_over_weights_bytes"] <= PEAK_LIMIT * line["liveness_bound_bytes"]
