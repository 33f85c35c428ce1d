"""A fitted recipe as a model: what is compiled of it computes what was simulated when it was fitted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate import Ranges
from tvm_flow.calibrate.samples import Samples
from tvm_flow.errors import ConfigError
from tvm_flow.model import AnyModel
from tvm_flow.quantize import KeepFloat, Recipe, fake_outputs, load_quantized, quantize_model, save_quantized
from tvm_flow.quantize.recipe_parts import Fit, Widths
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import simulated_outputs, simulating
from tvm_flow.sampler import SamplerConfig, denoise, model_outputs

FREE = Recipe(
    keep_float=(KeepFloat("*.cross_attn.kv_linear"),),
    fit=Fit(clip="mse", weight_clip="mse", rounding="gptq", center="step", correction="step"),
)
RECIPES = {
    "everything per step": FREE,
    "one group": dataclasses.replace(
        FREE, groups=1, fit=dataclasses.replace(FREE.fit, center="group", correction="group")
    ),
    "asymmetric int4": dataclasses.replace(FREE, activation="asymmetric", widths=Widths(weights=4)),
    "caption in int8": dataclasses.replace(FREE, keep_float=()),
    "some steps in float": dataclasses.replace(
        FREE, keep_float=(KeepFloat("*.attn.*", (1, 2)), KeepFloat("*.fc1", (0, 1)))
    ),
    "shared branches, no smoothing": dataclasses.replace(FREE, branches="shared", smoothing=None),
}


def power(values: Tensor) -> float:
    return float(values.double().square().sum())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
def test_folded_it_computes_what_was_simulated(
    model: AnyModel,
    ranges: Ranges,
    samples: Samples,
    caption: tuple[Tensor, Tensor],
    sampler: SamplerConfig,
    recipe: Recipe,
) -> None:
    """But for values near a tie, whose codes the order of float operations decides."""
    noise = torch.randn(1, *ranges.latent, generator=torch.Generator().manual_seed(7))
    with torch.no_grad(), simulating(model, make_scheme(model, recipe, samples).layers) as clock:
        simulated = denoise(simulated_outputs(model, clock, caption, sampler), noise, sampler)
    folded = denoise(fake_outputs(quantize_model(model, ranges, recipe, samples), *caption), noise, sampler)
    exact = denoise(model_outputs(model, *caption, sampler), noise, sampler)
    assert power(folded - simulated) < 0.02 * power(simulated - exact)


def test_a_fitted_model_survives_its_file(model: AnyModel, ranges: Ranges, samples: Samples, tmp_path: Path) -> None:
    made = quantize_model(model, ranges, FREE, samples)
    save_quantized(tmp_path / "q", made)
    again = load_quantized(tmp_path / "q")
    assert again.recipe == FREE
    for name, layer in made.layers.items():
        np.testing.assert_array_equal(again.layers[name].bias, layer.bias)
    centered = [name for name, fold in made.folds.items() if fold.center is not None]
    assert {name.rpartition(".")[2] for name in centered} == {"msa_shift", "mlp_shift"}
    for name in centered:
        for branch in (0, 1):
            np.testing.assert_array_equal(again.evaluate(name, 2, branch), made.evaluate(name, 2, branch))


def test_what_is_the_same_at_every_step_is_kept_once(model: AnyModel, ranges: Ranges, samples: Samples) -> None:
    plain = quantize_model(model, ranges, Recipe(groups=2), samples)
    assert {layer.bias.ndim for layer in plain.layers.values()} == {1}
    once = quantize_model(model, ranges, RECIPES["one group"], samples)
    assert all((layer.bias == layer.bias[0]).all() for layer in once.layers.values() if layer.bias.ndim == 3)


def test_nothing_to_fit_on_is_said(model: AnyModel, ranges: Ranges) -> None:
    with pytest.raises(ConfigError, match="recipe: groups, fit: expected samples of inputs to fit on, got none"):
        quantize_model(model, ranges, RECIPES["one group"])


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (Recipe(method="dynamic"), "method dynamic"),
        (Recipe(widths=Widths(8, 6)), "activations of 6 bits"),
        (Recipe(attention="int8", fit=Fit(center="step")), "attention int8 with fit.center step"),
    ],
)
def test_what_no_library_runs_is_refused(model: AnyModel, ranges: Ranges, recipe: Recipe, named: str) -> None:
    with pytest.raises(ConfigError, match=f"recipe: {named}: expected what libraries run.*use tvm-flow evaluate"):
        quantize_model(model, ranges, recipe)
