"""The report: one file that needs nothing else, with what it was given."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.tiny_model import LATENT, LENGTHS, SAMPLER, embed, make_model

from tvm_flow.calibrate import CalibrationPrompt, Denoising, calibrate
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.cli import main
from tvm_flow.errors import ConfigError
from tvm_flow.quality.intervals import Interval
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.report_charts import SHADES, Series, heat_map, line_chart
from tvm_flow.quality.report_file import ReportFiles, group_curves, write_report
from tvm_flow.quality.sensitivity import load_sensitivity, measure_sensitivity, save_sensitivity, step_windows
from tvm_flow.quality.standings import verdicts
from tvm_flow.quality.trials import Pair, Subject
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.recipe_parts import Widths

PROMPTS = tuple(CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS))


class Page(HTMLParser):
    """Whether tags close in order, and what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "line", "circle", "polyline"):
            self.open.append(tag)
        given = [value or "" for name, value in attrs if name in ("src", "href")]
        self.loads += [value for value in given if not value.startswith("#")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def scores(path: Path) -> Path:
    steps = {"fp32": [0] * 4, "a-g1": [0] * 4, "a-g2": [0, 0, 1, 1], "a": [0, 1, 2, 3], "<b>": [0] * 4}
    rows = [
        {
            **{"key": "k", "recipe": recipe, "model": "plain", "prompt": prompt, "seed": seed, "bytes_per_step": 1.0},
            **{"groups": groups, "latent_psnr_db": 40.0 + max(groups) + seed, "latent_cosine": 1.0},
        }
        for recipe, groups in steps.items()
        for prompt in "pq"
        for seed in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    model = make_model()
    calibrate(Denoising(model, SAMPLER, LATENT), PROMPTS, embed, tmp_path / "ranges.safetensors", progress=False)
    output = tmp_path / "report.html"
    arguments = ["--scores", str(scores(tmp_path / "a.jsonl")), "--ranges", str(tmp_path / "ranges.safetensors")]
    assert main(["report", *arguments, "--output", str(output)]) == 0
    page = Page()
    page.feed(output.read_text())
    assert page.open == [] and page.loads == []
    for words in ("Recipes, plain model", "Quality against step groups", "Ranges over the steps", "<b>", "itself"):
        assert words in page.words, words
    assert "<b>" not in output.read_text(), "names are escaped"
    assert {"url(", "@import", "<script"}.isdisjoint(output.read_text().split())


def test_curves_end_in_a_group_for_each_step(tmp_path: Path) -> None:
    curves = group_curves(verdicts(read_lines(scores(tmp_path / "a.jsonl"))))
    assert list(curves) == ["a"]
    (line,) = curves["a"]
    assert line.name == "plain, 4 pairs" and [x for x, _ in line.points] == [1, 2, 4]
    assert [interval.mean for _, interval in line.points] == [40.5, 41.5, 43.5]


def test_points_of_a_curve_are_means_over_the_pairs_that_all_have(tmp_path: Path) -> None:
    """Or a recipe that was tried on fewer videos would stand beside others' harder ones."""
    path = scores(tmp_path / "a.jsonl")
    lines = [line for line in path.read_text().splitlines() if not ('"a-g2"' in line and '"seed": 1' in line)]
    path.write_text("".join(f"{line}\n" for line in lines))
    (line,) = group_curves(verdicts(read_lines(path)))["a"]
    assert line.name == "plain, 2 pairs"
    assert [interval.mean for _, interval in line.points] == [40.0, 41.0, 43.0]


def test_no_scores_are_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected scored videos, got none; run tvm-flow evaluate first"):
        write_report(ReportFiles(tmp_path / "none.jsonl"), tmp_path / "report.html")


def test_a_heat_map_spreads_its_shades_over_the_values() -> None:
    drawn = heat_map(["r"], [str(k) for k in range(SHADES)], np.geomspace(1, 1000, SHADES)[None], "px", "corner")
    assert [f'class="h{k}" title' in drawn for k in range(SHADES)] == [True] * SHADES
    assert "logarithmic" in drawn
    assert "logarithmic" not in heat_map(["r"], ["a", "b"], np.array([[1.0, 2.0]]), "px", "corner")


def test_a_line_chart_draws_every_point_and_names_every_line() -> None:
    points = tuple((x, Interval(float(x), x - 0.5, x + 0.5)) for x in (1, 2, 20))
    drawn = line_chart([Series("one", points), Series("two", points)], "groups", "dB")
    assert drawn.count("<circle") == 6 and ">one<" in drawn and ">two<" in drawn


def test_windows_cover_all_steps_once() -> None:
    for steps in (1, 3, 20):
        for count in (1, 3, 5):
            covered = [step for first, last in step_windows(steps, count) for step in range(first, last + 1)]
            assert covered == list(range(steps))


def test_sensitivity_is_of_each_layer_alone_and_survives_its_file(tmp_path: Path) -> None:
    denoising = Denoising(make_model(), SAMPLER, LATENT)
    subject = Subject("plain", denoising, embed, sample_inputs(denoising, PROMPTS, embed, 8, progress=False), PROMPTS)
    pairs = [Pair(text, 5) for text in LENGTHS]
    fine, coarse = (
        measure_sensitivity(subject, ("mine", Recipe(widths=Widths(bits, bits))), pairs, 3, progress=False)
        for bits in (8, 4)
    )
    assert len(fine.errors) == len(fine.layers) == 14 and {len(row) for row in fine.errors} == {3}
    assert np.mean(coarse.errors) > 5 * np.mean(fine.errors) > 0
    save_sensitivity(tmp_path / "s.json", fine)
    assert load_sensitivity(tmp_path / "s.json") == fine
