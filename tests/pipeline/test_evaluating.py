"""The evaluate command on tiny models: both variants in one file, and its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny_model import LATENT, LENGTHS, SAMPLER, STDIT_CONFIG, embed, make_model

from tvm_flow.calibrate import load_prompts
from tvm_flow.cli import main
from tvm_flow.demo import load_captions
from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.evaluating import EvaluationRequest, evaluate_stage, make_subject, mix_stage, sensitivity_stage
from tvm_flow.pipeline.source import Source
from tvm_flow.quality.budget import Budget
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.standings import verdicts
from tvm_flow.quality.trials import crossed
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.recipe import load_recipe
from tvm_flow.sampler import SamplerConfig
from tvm_flow.shipped import shipped_folder

CALIBRATION = shipped_folder("calibration")


def request(tmp_path: Path, *recipes: str, outliers: Path | None = None) -> EvaluationRequest:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("prompts: [" + ", ".join(LENGTHS) + "]\n")
    return EvaluationRequest(recipes, tuple(crossed(list(LENGTHS), [3, 4])), prompts, tmp_path / "out.jsonl", outliers)


@pytest.mark.parametrize("kind", ["STDiT3", "STDiT"])
def test_outliers_cost_a_static_scale_more_than_a_plain_model_does(tmp_path: Path, kind: str) -> None:
    diffusion = SamplerConfig(steps=3, cfg_scale=2.0, fps=8.0, frames=3, height=32, width=32, name="ddim")
    model, sampler = (make_model(), SAMPLER) if kind == "STDiT3" else (make_model(STDIT_CONFIG), diffusion)
    source = Source(model, sampler, LATENT, embed)
    assert evaluate_stage(source, request(tmp_path, "static-w8a8-nosmooth"), progress=False) == 8
    with_outliers = request(tmp_path, "static-w8a8-nosmooth", outliers=CALIBRATION / "outliers.yaml")
    assert evaluate_stage(source, with_outliers, progress=False) == 8
    db = {(v.model, v.recipe): v.interval("latent_psnr_db").mean for v in verdicts(read_lines(tmp_path / "out.jsonl"))}
    assert db["plain", "fp32"] == db["outliers", "fp32"]
    assert db["outliers", "static-w8a8-nosmooth"] < db["plain", "static-w8a8-nosmooth"] - 3


def test_a_bundle_in_integers_has_what_lies_between_its_linears_measured(tmp_path: Path) -> None:
    """Its recipe is not among the request's: it comes with the bundle."""
    source, asked = Source(make_model(), SAMPLER, LATENT, embed), request(tmp_path, "static-w8a8")
    assert make_subject(source, asked, progress=False).reach is None
    assert make_subject(source, asked, False, (Recipe(between="integer"),)).reach is not None


def test_a_recipe_that_is_not_there_fails_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipe 'best': expected a YAML file or one of"):
        evaluate_stage(Source(make_model(), SAMPLER, LATENT, embed), request(tmp_path, "best"), progress=False)


def test_evaluation_prompts_are_known_and_none_is_calibrated_on() -> None:
    evaluated = [prompt.text for prompt in load_prompts(CALIBRATION / "evaluation.yaml")]
    calibrated = {prompt.text for prompt in load_prompts(CALIBRATION / "prompts.yaml")}
    assert len(set(evaluated)) == 72 and set(evaluated) <= set(load_captions()) and not calibrated & set(evaluated)


def test_the_command_lists_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--list-recipes"]) == 0
    assert {"fp32", "static-free-w8a8-g1", "dynamic-w4a8"} <= set(capsys.readouterr().out.split())


def test_the_command_names_a_wrong_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "w9a9"]) == 2
    assert "recipe 'w9a9'" in capsys.readouterr().err


def test_a_mixture_is_written_as_the_recipe_that_was_measured_and_only_by_its_own_effects(tmp_path: Path) -> None:
    source, effects = Source(make_model(), SAMPLER, LATENT, embed), tmp_path / "sensitivity.json"
    asked = request(tmp_path, "static-w4a8")
    sensitivity_stage(source, asked, 1, progress=False)
    asked.output.replace(effects)
    mixed = mix_stage(source, asked, effects, Budget(6_000, None, "int8"), progress=False)
    assert mixed.choices and load_recipe(asked.output) == mixed.recipe
    with pytest.raises(ConfigError, match="expected effects of static-w8a8, got those of static-w4a8; measure them"):
        mix_stage(source, request(tmp_path, "static-w8a8"), effects, Budget(1, None), progress=False)
