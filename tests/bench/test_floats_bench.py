"""The bench of float products measures what a step and a decoder compute, beside whoever is installed."""

from __future__ import annotations

import json
from math import prod

import pytest

from tvm_flow.bench import floats
from tvm_flow.bench.__main__ import main
from tvm_flow.bench.contest import AGREEMENT, DEEPEST
from tvm_flow.bench.floats import SHAPES, FloatShape


def test_the_line_is_the_worst_shapes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = (FloatShape("product", (8, 32), (32, 16)), FloatShape("images", (1, 4, 10, 10), (8, 4, 3, 3)))
    monkeypatch.setattr(floats, "SHAPES", shapes)
    assert main(["floats", "--rounds", "1"]) == 0
    said = capsys.readouterr()
    line = json.loads(said.out)
    assert list(line) == ["shape", "ours_gmacs", "peak_gmacs", "of_peak", "peers"]
    assert line["shape"] in map(str, shapes) and {"torch", "onnxruntime"} <= set(line["peers"])
    assert min(line["ours_gmacs"], line["peak_gmacs"]) > 0
    assert all(str(shape) in said.err for shape in shapes)


def test_multiplications_are_counted_by_output_and_depth() -> None:
    assert [shape.macs for shape in SHAPES[:2]] == [120 * 4096 * 1152, 120 * 1152 * 1152]
    assert FloatShape("images", (1, 4, 10, 10), (8, 4, 3, 3)).macs == 8 * 8 * 8 * 4 * 9


def test_no_sum_is_deeper_than_what_contenders_may_differ_by_was_derived_for() -> None:
    assert max(shape.macs // prod(shape.output) for shape in SHAPES) == DEEPEST and AGREEMENT < 1e-4
