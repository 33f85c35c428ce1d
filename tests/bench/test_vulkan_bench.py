"""What the Vulkan bench says of a small product; the demo's step is measured where a bundle of it is made."""

from __future__ import annotations

import json

import pytest
from support.validated_vulkan import validated

from tvm_flow.bench import vulkan
from tvm_flow.bench.__main__ import main
from tvm_flow.bench.shapes import Shape
from tvm_flow.bench.size import VULKAN_LIMIT
from tvm_flow.bench.vulkan import Step, peer, product_of

KEYS = ["device", "integer_equal", "step_ms", "gemm_gmacs", "peers", "pipelines", "spirv_bytes", "runtime_bytes"]


def test_the_line_has_what_was_asked_for_and_a_peer_that_fails_is_null(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vulkan, "demo_step", lambda *_: Step(True, 1.5, 2, 300))
    monkeypatch.setattr(vulkan, "PEERS", {"nobody": None})
    with validated() as said:
        assert main(["vulkan", "--shape", "16,64,32", "--rounds", "1"]) == 0
        assert said.take() == ""
    printed = capsys.readouterr()
    (text,) = printed.out.splitlines()
    line = json.loads(text)
    assert list(line) == KEYS
    assert line["device"].startswith("llvmpipe") and line["gemm_gmacs"] >= 0
    assert line["peers"] == {"nobody": {"gemm_gmacs": None, "max_err": None}} and "KeyError" in printed.err
    assert (line["integer_equal"], line["step_ms"], line["pipelines"], line["spirv_bytes"]) == (True, 1.5, 2, 300)
    assert 0 < line["runtime_bytes"] <= VULKAN_LIMIT


def test_gmacs_are_of_the_product_alone() -> None:
    assert product_of(Shape(10, 100, 1000)).gmacs(1e-3) == 1.0


def test_ncnn_multiplies_the_same_codes() -> None:
    pytest.importorskip("ncnn", reason="scripts/setup peers installs it")
    found = peer("ncnn", product_of(Shape(16, 32, 64)), 1)
    assert found["max_err"] is not None and found["max_err"] < 0.5, "sums that went through a float scale"
