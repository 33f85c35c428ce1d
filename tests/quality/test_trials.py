"""Trials are resumable, the same however they were interrupted, and FP32 against itself is perfect."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.tiny_model import LATENT, LENGTHS, SAMPLER, STDIT_CONFIG, embed, make_model

from tvm_flow.calibrate import CalibrationPrompt, Denoising
from tvm_flow.calibrate.reach import measure_reach
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.errors import ConfigError, InterruptedCommand
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.scores import CAP_DB, Viewer
from tvm_flow.quality.trials import Subject, Trials, crossed, run_trials
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.recipe_parts import Widths
from tvm_flow.sampler import SamplerConfig

PROMPTS = tuple(CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS))
RECIPES = {
    "fp32": Recipe(method="float32"),
    "fp16": Recipe(method="float16"),
    "int8": Recipe(),
    "int4": Recipe(widths=Widths(4, 4)),
}
PAIRS = crossed(list(LENGTHS), [7, 8, 9])


def subject_of(model: object, sampler: SamplerConfig = SAMPLER) -> Subject:
    denoising = Denoising(model, sampler, LATENT)  # type: ignore[arg-type]
    return Subject("plain", denoising, embed, sample_inputs(denoising, PROMPTS, embed, 8, progress=False), PROMPTS)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(make_model())


def test_better_recipes_score_better_and_fp32_is_itself(subject: Subject, tmp_path: Path) -> None:
    output = tmp_path / "lines.jsonl"
    assert run_trials(subject, Trials(RECIPES, PAIRS, 4, output), Viewer(), progress=False) == 24
    db = {name: [line["latent_psnr_db"] for line in read_lines(output) if line["recipe"] == name] for name in RECIPES}
    assert all(len(values) == 6 for values in db.values())
    assert db["fp32"] == [CAP_DB] * 6
    assert min(db["fp16"]) > max(db["int8"]) > min(db["int8"]) > max(db["int4"])


def test_nothing_is_done_twice(subject: Subject, tmp_path: Path) -> None:
    output = tmp_path / "lines.jsonl"
    few = Trials({"int8": Recipe()}, PAIRS[:3], 2, output)
    assert run_trials(subject, few, Viewer(), progress=False) == 3
    before = output.read_bytes()
    assert run_trials(subject, few, Viewer(), progress=False) == 0
    assert output.read_bytes() == before
    assert run_trials(subject, dataclasses.replace(few, pairs=PAIRS[:4]), Viewer(), progress=False) == 2
    assert len(read_lines(output)) == 4


def test_ctrl_c_keeps_what_is_done_and_the_rest_comes_out_the_same(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    trials = Trials({"int8": Recipe(), "int4": RECIPES["int4"]}, PAIRS, 2, broken)
    run_trials(subject, dataclasses.replace(trials, output=whole), Viewer(), progress=False)
    calls, real = [], Viewer.scores

    def scores(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Viewer, "scores", scores)
    with pytest.raises(InterruptedCommand, match=r"interrupted after 6 of 12 videos; .*broken\.jsonl holds them"):
        run_trials(subject, trials, Viewer(), progress=False)
    assert len(read_lines(broken)) == 6
    with broken.open("ab") as file:
        file.write(b'{"key": "half a li')
    run_trials(subject, trials, Viewer(), progress=False)
    assert broken.read_bytes() == whole.read_bytes()


def test_a_changed_recipe_is_tried_anew(subject: Subject, tmp_path: Path) -> None:
    output = tmp_path / "lines.jsonl"
    for recipe in (Recipe(), Recipe(smoothing=None)):
        trials = Trials({"mine": recipe}, PAIRS[:2], 2, output)
        assert run_trials(subject, trials, Viewer(), progress=False) == 2
    first, second = (line["key"] for line in read_lines(output)[::2])
    assert first != second


def test_a_diffusion_with_fresh_noise_runs_too(tmp_path: Path) -> None:
    """STDiT under ddim that draws noise at every step: the same noise for every recipe."""
    sampler = SamplerConfig(steps=3, cfg_scale=2.0, fps=8.0, frames=3, height=32, width=32, name="ddim", eta=1.0)
    output = tmp_path / "lines.jsonl"
    trials = Trials({"fp16": RECIPES["fp16"]}, PAIRS[:2], 2, output)
    run_trials(subject_of(make_model(STDIT_CONFIG), sampler), trials, Viewer(), progress=False)
    assert all(line["latent_psnr_db"] > 40 for line in read_lines(output))


def test_no_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected prompts and seeds, got 0 and 1"):
        crossed([], [1])


def test_blocks_in_integers_are_tried_like_any_recipe(subject: Subject, tmp_path: Path) -> None:
    reach = measure_reach(subject.denoising, PROMPTS, embed, progress=False)
    output = tmp_path / "lines.jsonl"
    recipes = {"int8": Recipe(), "integer": Recipe(between="integer")}
    run_trials(dataclasses.replace(subject, reach=reach), Trials(recipes, PAIRS[:2], 2, output), Viewer(), False)
    db = {name: [line["latent_psnr_db"] for line in read_lines(output) if line["recipe"] == name] for name in recipes}
    assert db["integer"] != db["int8"] and min(db["integer"]) > min(db["int8"]) - 6


def test_attention_in_int8_is_tried_like_any_recipe(subject: Subject, tmp_path: Path) -> None:
    output = tmp_path / "lines.jsonl"
    recipes = {"int8": Recipe(), "attention": Recipe(attention="int8")}
    run_trials(subject, Trials(recipes, PAIRS[:2], 2, output), Viewer(), False)
    db = {name: [line["latent_psnr_db"] for line in read_lines(output) if line["recipe"] == name] for name in recipes}
    assert db["attention"] != db["int8"] and min(db["attention"]) > min(db["int8"]) - 6
