"""The bench of attention measures what a step computes, beside whoever is installed."""

from __future__ import annotations

import json

import pytest

from tvm_flow.bench import attention
from tvm_flow.bench.__main__ import main
from tvm_flow.bench.attention import AttentionShape


def test_the_line_is_the_worst_shapes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = (AttentionShape("spatial", 1, 2, 8, 48), AttentionShape("temporal", 3, 2, 8, 8))
    monkeypatch.setattr(attention, "SHAPES", shapes)
    assert main(["attention", "--rounds", "1"]) == 0
    said = capsys.readouterr()
    line = json.loads(said.out)
    assert list(line) == ["shape", "ours_gmacs", "ours_int8_gmacs", "peak_gmacs", "peers"]
    assert line["shape"] in map(str, shapes) and {"torch", "onnxruntime"} <= set(line["peers"])
    assert min(line["ours_gmacs"], line["ours_int8_gmacs"], line["peak_gmacs"]) > 0
    assert all(str(shape) in said.err for shape in shapes)
