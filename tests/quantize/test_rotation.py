"""Rotated heads change nothing that a model computes, and spread an outlier channel over its head."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate import Ranges
from tvm_flow.calibrate.samples import Samples
from tvm_flow.errors import ConfigError
from tvm_flow.model import AnyModel
from tvm_flow.model.layers import CrossAttention, SelfAttention
from tvm_flow.quantize import Recipe, fake_outputs, quantize_model
from tvm_flow.quantize.prepare import Fitting, prepare
from tvm_flow.quantize.recipe_parts import Fit
from tvm_flow.quantize.rotation import hadamard, head_rotation, with_rotated_heads
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import simulated_outputs, simulating
from tvm_flow.sampler import denoise, model_outputs

MODELS = ("STDiT3", "STDiT")


@pytest.mark.parametrize("order", [1, 2, 4, 8, 12, 20, 24, 48, 64, 72])
def test_hadamard_rows_are_ones_and_orthogonal(order: int) -> None:
    made = hadamard(order)
    assert made is not None and (np.abs(made) == 1).all()
    np.testing.assert_array_equal(made @ made.T, order * np.eye(order))


@pytest.mark.parametrize("size", [3, 6, 24, 36, 72])
def test_a_rotation_is_orthogonal_and_spreads_one_channel_over_its_head(size: int) -> None:
    turn = head_rotation(size)
    # An entry sums ``size`` products of magnitudes that add up to 1 at most; a row's own scale has as many roundings.
    np.testing.assert_allclose(turn @ turn.T, np.eye(size), atol=2 * size * 2.0**-53)
    np.testing.assert_array_equal(turn, head_rotation(size))
    assert (hadamard(size) is None) == (size in (3, 6, 36))
    assert np.abs(turn).max() < 1


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_every_attention_of_a_rotated_model_computes_the_same(model: AnyModel) -> None:
    """In float64; both round the same scores to float32, and what differs is some 1e-16 for each rotated weight."""
    wide = copy.deepcopy(model).double()
    turned = with_rotated_heads(wide)
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(3)).double()
    seen = 0
    for name, ours in turned.named_modules():
        exact = wide.get_submodule(name)
        if isinstance(ours, SelfAttention | CrossAttention):
            more = () if isinstance(ours, SelfAttention) else (x[:, :6], torch.zeros(2, 1, 1, 6))
            assert not torch.equal(ours.proj.weight, exact.proj.weight)
            torch.testing.assert_close(ours(x, *more), exact(x, *more), rtol=1e-12, atol=1e-12)
            seen += 1
    assert seen == (6 if hasattr(model, "blocks") else 8)


def last_bits_moved(fitting: Fitting) -> Samples:
    """What a model sees whose projections have each weight a last bit or two away from what it is."""
    model = copy.deepcopy(fitting.denoising.model)
    draw = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, SelfAttention | CrossAttention):
            signs = torch.randn(module.proj.weight.shape, generator=draw).sign()
            module.proj.weight.data *= 1 + 2.0**-23 * signs
    return prepare(replace(fitting, denoising=replace(fitting.denoising, model=model)), Recipe())[1]


def test_inputs_of_projections_lose_their_outliers(samples: Samples, fitting: Fitting) -> None:
    """Others keep theirs. A rotation rounds V's rows, the projection, and the sums of both anew, four times what
    `last_bits_moved` changes; and the largest difference of one draw may be twice that of another.
    """
    _, turned = prepare(fitting, Recipe(fit=Fit(rotation="heads")))
    for name in [name for name in samples if name.endswith("attn.proj") and "cross" not in name]:
        before, after = (float((-each[name].low).maximum(each[name].high).max()) for each in (samples, turned))
        assert after < before
    moved = last_bits_moved(fitting)
    for name in [name for name in samples if name.endswith("fc1")]:
        ours, rounding = (float((each[name].high / samples[name].high - 1).abs().max()) for each in (turned, moved))
        assert ours <= min(2 * 4 * rounding, 1e-4)


@pytest.mark.parametrize("fit", [Fit(rotation="heads", clip="mse"), Fit(inputs="quantized", correction="step")])
@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_folded_it_computes_what_was_simulated(
    model: AnyModel, ranges: Ranges, caption: tuple[Tensor, Tensor], fitting: Fitting, fit: Fit
) -> None:
    sampler = ranges.sampler
    recipe = Recipe(fit=fit)
    turned, samples = prepare(fitting, recipe)
    noise = torch.randn(1, *ranges.latent, generator=torch.Generator().manual_seed(7))
    with torch.no_grad(), simulating(turned, make_scheme(turned, recipe, samples).layers) as clock:
        simulated = denoise(simulated_outputs(turned, clock, caption, sampler), noise, sampler)
    folded = denoise(fake_outputs(quantize_model(model, ranges, recipe, samples), *caption), noise, sampler)
    exact = denoise(model_outputs(model, *caption, sampler), noise, sampler)
    assert (folded - simulated).double().square().sum() < 0.1 * (simulated - exact).double().square().sum()


def test_own_inputs_are_those_of_the_quantized_layers_before(fitting: Fitting) -> None:
    """The first layer of the first step sees the same noise; what follows sees what was rounded before it."""
    float_inputs = prepare(fitting, Recipe())[1]
    own = prepare(fitting, Recipe(fit=Fit(inputs="quantized")))[1]
    first, last = "spatial_blocks.0.attn.qkv", "temporal_blocks.1.mlp.fc2"
    assert torch.equal(own[first].rows[0], float_inputs[first].rows[0])
    assert not torch.equal(own[first].rows[1], float_inputs[first].rows[1])
    lost = (own[last].rows - float_inputs[last].rows).norm() / float_inputs[last].rows.norm()
    assert 0 < lost < 0.5


def test_what_stands_before_a_projection_is_not_rotated_over(model: AnyModel) -> None:
    linear = model.get_submodule("spatial_blocks.0.attn.proj")
    handle = linear.register_forward_pre_hook(lambda _, inputs: inputs)
    try:
        with pytest.raises(ConfigError, match=r"expected nothing between attention and spatial_blocks\.0\.attn\.proj"):
            with_rotated_heads(model)
    finally:
        handle.remove()


def test_keys_that_say_nothing_are_not_written() -> None:
    assert "rotation" not in Fit(clip="mse").to_dict() and "inputs" not in Fit(clip="mse").to_dict()
    wide = Recipe(fit=Fit(rotation="heads", inputs="quantized"))
    assert Recipe.from_dict(wide.to_dict()) == wide
    with pytest.raises(ConfigError, match=r"fit\.rotation: expected none with between integer"):
        Recipe(between="integer", fit=Fit(rotation="heads"))
