"""What the NPU bench says of the demo, for one accelerator."""

from __future__ import annotations

import json

import pytest
from support.arm_npu import needs_npu_arm

from tvm_flow.bench import npu
from tvm_flow.bench.__main__ import main

KEYS = [
    "model",
    "between",
    "bit_exact",
    "mac_coverage",
    "regions",
    "crossings",
    "cycles",
    "bytes_1_step",
    "bytes_30_steps",
]


@needs_npu_arm
def test_the_demo_is_exact_and_most_of_it_leaves_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(npu, "ETHOS_U", {"ethos-u85-512": 512})
    assert main(["npu", "--model", "demo", "--between", "float"]) == 0
    said = capsys.readouterr()
    (text,) = said.out.splitlines()
    line = json.loads(text)
    assert list(line) == KEYS and line["bit_exact"] is True
    assert line["mac_coverage"] >= 0.95 and line["regions"] >= 48 and line["crossings"] > 0
    assert line["cycles"]["ethos-u85-512"] > 0
    assert line["bytes_1_step"] < line["bytes_30_steps"] < 4 * line["bytes_1_step"], "weights are there once"
    assert "utilisation 0." in said.err and "where nothing is shared" in said.err


@needs_npu_arm
def test_blocks_in_integers_are_exact_and_leave_nothing_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(npu, "ETHOS_U", {"ethos-u55-256": 256})
    assert main(["npu", "--model", "demo", "--between", "integer"]) == 0
    said = capsys.readouterr()
    line = json.loads(said.out)
    assert list(line) == KEYS and line["between"] == "integer" and line["bit_exact"] is True
    assert line["mac_coverage"] == 1.0 and line["regions"] <= 20 and line["crossings"] <= 19
    assert line["cycles"]["ethos-u55-256"] > 0
    assert line["bytes_1_step"] < line["bytes_30_steps"] < 9 * line["bytes_1_step"]
    assert "demo in integers, ethos-u55-256: " in said.err and "utilisation 0." in said.err
