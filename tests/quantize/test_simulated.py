"""The simulator states the arithmetic of numerics, and what it makes of a recipe is what `quantize` makes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.execution import compare, imported, reference_output
from support.quantized_graphs import mlp, weights
from torch import Tensor

from tvm_flow.calibrate import Ranges
from tvm_flow.calibrate.samples import Samples
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyModel
from tvm_flow.numerics import accumulate
from tvm_flow.numerics import quantize as to_int8
from tvm_flow.quantize import Recipe, Smoothing, fake_outputs, quantize_model
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import (
    DynamicCodes,
    SimulatedLayer,
    StaticCodes,
    simulated_outputs,
    simulating,
)
from tvm_flow.sampler import SamplerConfig, model_outputs

MODELS = ["STDiT3", "STDiT"]


def layer(weight: Tensor, scale: float, zero: int, weight_scale: Tensor, bias: Tensor, bits: int = 8) -> SimulatedLayer:
    codes = StaticCodes(torch.full((1, 2), scale), torch.full((1, 2), float(zero)), (bits,))
    return SimulatedLayer(weight, weight_scale, bias.expand(1, 2, -1), None, None, codes, frozenset())


@pytest.mark.parametrize("zero", [0, -37])
def test_a_linear_has_the_bits_of_numerics(zero: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, (8, 500)).astype(np.float32)
    wq, ws = rng.integers(-127, 128, (24, 500)).astype(np.int8), rng.uniform(0.01, 0.1, 24).astype(np.float32)
    bias, scale = rng.normal(size=24).astype(np.float32), np.float32(0.05)
    total = accumulate(to_int8(x, scale, zero), wq, zero)
    want = total.astype(np.float32) * (scale * ws) + bias
    made = layer(torch.from_numpy(wq).float(), float(scale), zero, torch.from_numpy(ws), torch.from_numpy(bias))
    np.testing.assert_array_equal(made.run(torch.from_numpy(x), 0).numpy(), want)


def test_a_small_graph_comes_out_as_the_integer_reference_has_it() -> None:
    """Two quantized linears with a ReLU between, one with a zero point."""
    x = np.random.default_rng(2).normal(size=(4, 16)).astype(np.float32)
    expected = reference_output(imported(mlp()), {"x": x})
    none = torch.zeros(8)
    bias = torch.linspace(-1, 1, 32, dtype=torch.float64).float()
    first = layer(
        torch.from_numpy(weights(16, 32)).float().T, float(np.float32(0.03)), 3, torch.full((32,), 0.01), bias
    )
    second = layer(torch.from_numpy(weights(32, 8)).float().T, float(np.float32(0.05)), 0, torch.full((8,), 0.02), none)
    got = second.run(first.run(torch.from_numpy(x), 0).relu(), 0)
    assert compare(expected, got.numpy()) == 0


def test_fewer_bits_saturate_earlier() -> None:
    made = layer(torch.eye(2), 1.0, 0, torch.ones(2), torch.zeros(2), bits=4)
    got = made.run(torch.tensor([[100.0, -100.0], [3.4, -3.6]]), 0)
    assert got.tolist() == [[7, -8], [3, -4]]


@pytest.mark.parametrize("symmetric", [True, False])
def test_dynamic_scales_are_each_tokens_own(symmetric: bool) -> None:
    x = (
        torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(3))
        * torch.tensor([1.0, 1e-3, 1e3, 0, 7])[:, None]
    )
    codes, scale = DynamicCodes(8, symmetric).encode(x, 0)
    assert scale.shape == (2, 5, 1)
    error = (codes * scale - x).abs()
    half_a_step = scale / 2 * (1 + 1e-5)
    assert (error <= half_a_step).all()


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize("activation", ["symmetric", "asymmetric"])
def test_unsmoothed_it_is_the_fake_quantized_model(
    model: AnyModel,
    ranges: Ranges,
    samples: Samples,
    sampler: SamplerConfig,
    caption: tuple[Tensor, Tensor],
    activation: str,
) -> None:
    """In float64, where no code falls to another side of a tie by the order of a sum."""
    recipe = Recipe(smoothing=None, activation="symmetric" if activation == "symmetric" else "asymmetric")
    quantized = quantize_model(model, ranges, recipe)
    scheme = make_scheme(model, recipe, samples)
    z = torch.randn(1, 4, 3, 6, 5, generator=torch.Generator().manual_seed(5))
    want, outputs = fake_outputs(quantized, *caption), model_outputs(model, *caption, sampler)
    exact = [outputs(z, step, t) for step, t in enumerate(sampler.timesteps())]
    with simulating(model, scheme.layers) as clock:
        got = simulated_outputs(model, clock, caption, sampler)
        for step, t in enumerate(sampler.timesteps()):
            for ours, theirs, true in zip(got(z, step, t), want(z, step, t), exact[step], strict=True):
                assert (ours - theirs).norm() < 0.1 * (theirs - true).norm()


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_tables_are_those_that_quantize_makes(model: AnyModel, ranges: Ranges, samples: Samples) -> None:
    recipe = Recipe(Smoothing(0.6), branches="shared")
    scheme = make_scheme(model, recipe, samples)
    for name, want in quantize_model(model, ranges, recipe).layers.items():
        got = scheme.layers[name]
        assert isinstance(got, SimulatedLayer) and isinstance(got.codes, StaticCodes)
        np.testing.assert_array_equal(got.codes.scale.numpy(), want.scale, err_msg=name)
        assert want.weight_q is not None
        # A gain of the next layer in the rows of V moves a quotient by one rounding, which may cross a tie.
        apart = np.abs(got.weight.numpy() - want.weight_q)
        assert apart.max() <= 1 and (apart > 0).mean() < 1e-3, name


def test_the_model_is_itself_again_afterwards(
    model: AnyModel, samples: Samples, sampler: SamplerConfig, caption: tuple[Tensor, Tensor]
) -> None:
    z = torch.randn(1, 4, 3, 6, 5, generator=torch.Generator().manual_seed(5))
    before = model_outputs(model, *caption, sampler)(z, 0, 900.0)
    scheme = make_scheme(model, Recipe(method="dynamic"), samples)
    with simulating(model, scheme.layers) as clock:
        during = simulated_outputs(model, clock, caption, sampler)(z, 0, 900.0)
    after = model_outputs(model, *caption, sampler)(z, 0, 900.0)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(before[0], during[0])


def test_layers_kept_in_float_are_untouched(
    model: AnyModel, samples: Samples, sampler: SamplerConfig, caption: tuple[Tensor, Tensor]
) -> None:
    recipe = Recipe.from_dict({"keep_float": [{"layers": "*", "steps": [1, 1]}]})
    z = torch.randn(1, 4, 3, 6, 5, generator=torch.Generator().manual_seed(5))
    exact = model_outputs(model, *caption, sampler)
    with simulating(model, make_scheme(model, recipe, samples).layers) as clock:
        outputs = simulated_outputs(model, clock, caption, sampler)
        kept, rounded = outputs(z, 1, 700.0)[0], outputs(z, 2, 700.0)[0]
    assert torch.equal(kept, exact(z, 1, 700.0)[0])
    assert not torch.equal(rounded, exact(z, 2, 700.0)[0])


def test_a_layer_of_another_model_is_refused(model: AnyModel, samples: Samples) -> None:
    name = next(iter(samples))
    wrong = dataclasses.replace(samples[name], rows=samples[name].rows[..., :-1])
    with pytest.raises(QuantizeError, match=f"{name}: expected samples of 32 channels"):
        make_scheme(model, Recipe(), {**samples, name: wrong})
