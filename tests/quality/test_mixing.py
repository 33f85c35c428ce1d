"""A mixture stays within its budget, is measured and not added up, and its file is the recipe that was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.tiny_model import LATENT, LENGTHS, SAMPLER, embed, make_model

from tvm_flow.calibrate import CalibrationPrompt, Denoising
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.errors import ConfigError
from tvm_flow.quality.budget import Budget, Candidate, Sizes
from tvm_flow.quality.mixed_recipe import mixed_text, summary_of
from tvm_flow.quality.mixing import candidates, mix
from tvm_flow.quality.scores import psnr_to
from tvm_flow.quality.sensitivity import Sensitivity, float_latents, measure_sensitivity, quantized_latents
from tvm_flow.quality.trials import Pair, Subject
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.recipe import KeepFloat, load_recipe
from tvm_flow.quantize.recipe_parts import Override, Widths
from tvm_flow.quantize.scheme import make_scheme

PAIRS = [Pair(text, 5) for text in LENGTHS]
FOUR = Recipe(widths=Widths(4, 8))


@pytest.fixture(scope="module")
def subject() -> Subject:
    denoising = Denoising(make_model(), SAMPLER, LATENT)
    prompts = tuple(CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS))
    return Subject("plain", denoising, embed, sample_inputs(denoising, prompts, embed, 8, progress=False), prompts)


@pytest.fixture(scope="module")
def effects(subject: Subject) -> Sensitivity:
    return measure_sensitivity(subject, ("four", FOUR), PAIRS, 3, progress=False)


def db(subject: Subject, recipe: Recipe) -> float:
    starts, exact = float_latents(subject, PAIRS)
    layers = make_scheme(subject.denoising.model, recipe, subject.samples).layers
    return float(psnr_to(quantized_latents(subject, PAIRS, starts[0], layers), exact).mean())


@pytest.mark.parametrize(
    "budget",
    [Budget(40_000, None), Budget(None, 0.1), Budget(40_000, 0.2), Budget(6_000, None, "int8")],
    ids=["bytes", "macs", "both", "int8"],
)
def test_a_mixture_is_better_within_its_budget_and_its_file_says_what_was_measured(
    subject: Subject, effects: Sensitivity, budget: Budget, tmp_path: Path
) -> None:
    mixed = mix(subject, FOUR, effects, PAIRS, budget, progress=False)
    assert mixed.choices and mixed.tried >= len(mixed.choices)
    assert all(budget.share(choice.cost) <= 1 for choice in mixed.choices)
    assert mixed.psnr_db == db(subject, FOUR) < mixed.choices[0].psnr_db
    assert mixed.choices[-1].psnr_db == pytest.approx(db(subject, mixed.recipe), abs=1e-9)
    (tmp_path / "mixed.yaml").write_text(text := mixed_text(mixed, "four", budget))
    assert load_recipe(tmp_path / "mixed.yaml") == mixed.recipe
    assert text.count("# effect") == len(mixed.choices) and summary_of(mixed) in text


def test_what_does_not_help_is_not_kept_however_large_its_effect(subject: Subject, effects: Sensitivity) -> None:
    """Of a recipe whose only quantized layer is called harmless, all others are already in float."""
    names = effects.layers
    recipe = replace(FOUR, keep_float=tuple(KeepFloat(name) for name in names[1:]))
    assert [each.layer for each in candidates(recipe, effects, Budget(1, None), SAMPLER.steps)] == [names[0]]
    nothing = mix(subject, recipe, effects, PAIRS, Budget(1, None), progress=False)
    assert nothing.choices == () and nothing.recipe == recipe and nothing.tried == 0
    assert load_text(mixed_text(nothing, "four", Budget(1, None))) == recipe


def load_text(text: str) -> Recipe:
    import yaml

    return Recipe.from_dict(yaml.safe_load(text))


def test_bytes_alone_make_whole_layers_and_multiply_adds_windows(effects: Sensitivity) -> None:
    whole = candidates(FOUR, effects, Budget(1, None), SAMPLER.steps)
    assert [each.layer for each in whole] == list(effects.layers) and all(each.steps is None for each in whole)
    parts = candidates(FOUR, effects, Budget(None, 0.5), SAMPLER.steps)
    timeless = [each for each in parts if each.layer.endswith("kv_linear")]
    assert all(each.steps is None for each in timeless) and len(timeless) == 2
    assert len(parts) == 3 * (len(effects.layers) - 2) + 2


def test_costs_are_those_of_all_windows_together(subject: Subject) -> None:
    sizes = Sizes.of(subject, FOUR)
    name = next(name for name in sizes.weights if name.endswith("mlp.fc1"))
    parts = [Candidate(name, (step, step), 1.0) for step in range(SAMPLER.steps)]
    some, all_of_it = sizes.cost(parts[:2], "float"), sizes.cost(parts, "float")
    assert some.weight_bytes == 4 * sizes.weights[name]  # its codes are still needed
    assert all_of_it == sizes.cost([Candidate(name, None, 1.0)], "float")
    assert all_of_it.weight_bytes == 3.5 * sizes.weights[name]
    assert some.macs == pytest.approx(all_of_it.macs * 2 / SAMPLER.steps)
    everything = [Candidate(each, None, 1.0) for each in sizes.weights]
    assert sizes.cost(everything, "float").macs == pytest.approx(1)
    assert sizes.cost(everything, "int8").weight_bytes == 0.5 * sum(sizes.weights.values())


def test_impossible_wishes_are_refused_by_name(subject: Subject, effects: Sensitivity) -> None:
    with pytest.raises(ConfigError, match="budget: expected bytes"):
        Budget(None, None)
    with pytest.raises(ConfigError, match="with int8"):
        Budget(1, 0.5, "int8")
    with pytest.raises(ConfigError, match="expected weights of fewer than 8 bits"):
        mix(subject, Recipe(), effects, PAIRS, Budget(1, None, "int8"), progress=False)
    with pytest.raises(ConfigError, match="got method float16"):
        mix(subject, Recipe(method="float16"), effects, PAIRS, Budget(1, None), progress=False)
    with pytest.raises(ConfigError, match="expected the 14 layers of this model over 3 steps, got 14 over 2"):
        mix(subject, FOUR, replace(effects, windows=((0, 1),)), PAIRS, Budget(1, None), progress=False)
    with pytest.raises(ConfigError, match="got 14 over 0"):
        mix(subject, FOUR, replace(effects, windows=()), PAIRS, Budget(1, None), progress=False)


def test_overrides_of_the_recipe_stay_before_those_that_are_added(subject: Subject, effects: Sensitivity) -> None:
    recipe = replace(FOUR, overrides=(Override("*.attn.qkv", weights=3),))
    mixed = mix(subject, recipe, effects, PAIRS, Budget(3_000, None, "int8"), progress=False)
    assert mixed.recipe.overrides[0] == recipe.overrides[0] and len(mixed.recipe.overrides) > 1
    assert load_text(mixed_text(mixed, "mine", Budget(3_000, None, "int8"))) == mixed.recipe
