"""Folding moves factors and time without changing the function: layer by layer, and for the whole model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate import Ranges, block_names, layer_kinds, layer_names
from tvm_flow.model import AnyModel, STDiT3, Video
from tvm_flow.quantize import FakeQuant, KeepFloat, QuantizedModel, Recipe, Smoothing, quantize_model
from tvm_flow.quantize.fold import INPUT_GAIN_KINDS, fold_linear, modulation_folds, split
from tvm_flow.sampler import SamplerConfig

pytestmark = pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
FIRST_FLOAT = (KeepFloat("*", (0, 2)),)  # smoothed for the sake of step 3, float at the steps that are compared


@pytest.fixture(scope="module")
def folded(model: AnyModel, ranges: Ranges) -> QuantizedModel:
    return quantize_model(model, ranges, Recipe(Smoothing(0.7), keep_float=FIRST_FLOAT))


def noise() -> Tensor:
    return torch.randn(1, 4, 3, 6, 5, generator=torch.Generator().manual_seed(9))


def original(model: AnyModel, sampler: SamplerConfig, step: int, y: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    wide = copy.deepcopy(model).to(dtype)
    wide.t_emb = lambda *given: model.t_emb(*given).to(dtype)  # the sinusoids are float32 by definition
    t = torch.tensor([sampler.timesteps()[step]], dtype=torch.float32)
    return wide(noise().to(dtype), t, y.to(dtype), mask, Video(sampler.fps, 32.0, 32.0))


@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("branch", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folding_without_quantization_is_the_float_model(
    folded: QuantizedModel,
    model: AnyModel,
    sampler: SamplerConfig,
    caption: tuple[Tensor, Tensor],
    step: int,
    branch: int,
    dtype: torch.dtype,
) -> None:
    y, mask = caption
    y = y if branch == 0 else model.null_caption(1)
    want = original(model, sampler, step, y, mask, dtype)
    got = FakeQuant(folded, step, branch, dtype)(noise(), y, mask)
    assert all(layer.float_steps[step] for layer in folded.layers.values())
    assert (got - want).abs().max() < 1e-5 * max(1.0, float(want.abs().max()))


def test_folding_really_moved_something(folded: QuantizedModel, model: AnyModel) -> None:
    for name, layer in folded.layers.items():
        linear = model.get_submodule(name)
        assert layer.weight_f is not None
        moved = np.abs(layer.weight_f / linear.weight.numpy() - 1).max()
        assert moved > 0.3, name
    assert all(fold.gain is not None for name, fold in folded.folds.items() if "scale" in name and "final" not in name)


@pytest.mark.parametrize("kind", ["attn.qkv", "attn_temp.qkv", "cross_attn.kv_linear"])
def test_only_v_rows_carry_the_gain_of_proj(model: AnyModel, kind: str) -> None:
    block, hidden = block_names(model.config)[1], model.config.hidden
    linear = model.get_submodule(f"{block}.{kind}" if kind in layer_kinds(model.config) else f"{block}.attn.qkv")
    gain = np.linspace(0.5, 2, hidden, dtype=np.float32)
    folded = fold_linear(f"{block}.{kind}", linear, {f"{block}.{kind.split('.')[0]}.proj": gain})
    weight, bias = linear.weight.double().numpy(), linear.bias.double().numpy()
    np.testing.assert_array_equal(folded.weight[:-hidden], weight[:-hidden])
    np.testing.assert_array_equal(folded.bias[:-hidden], bias[:-hidden])
    np.testing.assert_allclose(folded.weight[-hidden:], weight[-hidden:] * gain[:, None].astype(np.float64))
    np.testing.assert_allclose(folded.bias[-hidden:], bias[-hidden:] * gain.astype(np.float64))


def test_columns_are_divided_by_the_layer_s_own_gain_and_the_model_is_not_touched(model: AnyModel) -> None:
    block = block_names(model.config)[0]
    name = f"{block}.mlp.fc1"
    linear = model.get_submodule(name)
    before = linear.weight.clone()
    gain = np.linspace(0.25, 4, linear.in_features, dtype=np.float32)
    folded = fold_linear(name, linear, {name: gain})
    x = np.random.default_rng(0).normal(size=(3, linear.in_features))
    np.testing.assert_allclose((x * gain) @ folded.weight.T, x @ before.double().numpy().T, rtol=1e-12, atol=1e-12)
    other = fold_linear(f"{block}.attn.qkv", model.get_submodule(f"{block}.attn.qkv"), {name: gain})
    assert other.weight.dtype == np.float64
    assert torch.equal(linear.weight, before)
    np.testing.assert_array_equal(other.weight, model.get_submodule(f"{block}.attn.qkv").weight.double().numpy())


def test_gains_that_do_not_fold_stay_inputs(folded: QuantizedModel) -> None:
    for name, layer in folded.layers.items():
        assert (layer.input_gain is not None) == (split(name)[1] in INPUT_GAIN_KINDS), name


def test_proj_ranges_follow_the_folded_v_rows(model: AnyModel, ranges: Ranges) -> None:
    quantized = quantize_model(model, ranges, Recipe())
    plain = quantize_model(model, ranges, Recipe(smoothing=None))
    for name in (name for name in quantized.layers if name.endswith(".proj")):
        source = name.removesuffix("proj") + ("kv_linear" if "cross" in name else "qkv")
        hidden = model.config.hidden
        v = model.get_submodule(source).bias.numpy()[-hidden:]
        gain = quantized.layers[source].bias[-hidden:] / v
        want = (ranges.layers[name].absmax * gain).max(-1) / 127
        np.testing.assert_allclose(quantized.layers[name].scale, want, rtol=1e-4)
        np.testing.assert_allclose(plain.layers[name].scale, ranges.layers[name].absmax.max(-1) / 127, rtol=1e-6)


# time


def test_folds_are_the_modulation_of_the_model(folded: QuantizedModel, model: AnyModel, sampler: SamplerConfig) -> None:
    conditions = (sampler.fps,) if isinstance(model, STDiT3) else ()
    for step, t in enumerate(sampler.timesteps()):
        t_emb = model.t_emb(torch.tensor([t], dtype=torch.float32), *conditions)
        t0 = model.t0(t_emb).reshape(6, -1)
        np.testing.assert_array_equal(folded.step_records[step], torch.cat([t0.flatten(), t_emb[0]]).numpy())
        for block in block_names(model.config):
            shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = model.get_submodule(block).scale_shift_table + t0
            want = {
                "msa_shift": shift,
                "msa_scale": 1 + scale,
                "msa_gate": gate,
                "mlp_shift": shift_mlp,
                "mlp_scale": 1 + scale_mlp,
                "mlp_gate": gate_mlp,
            }
            for chunk, value in want.items():
                fold = folded.folds[f"{block}.{chunk}"]
                gain = 1.0 if fold.gain is None else fold.gain
                got = folded.evaluate(f"{block}.{chunk}", step) / gain
                np.testing.assert_allclose(got, value.numpy(), rtol=1e-5, atol=1e-5)
        shift, scale = model.final_layer.scale_shift_table + t_emb
        np.testing.assert_allclose(folded.evaluate("final.shift", step), shift.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(folded.evaluate("final.scale", step), (1 + scale).numpy(), rtol=1e-5, atol=1e-6)


def test_gates_and_the_final_layer_have_no_gain_and_offsets_are_chunks(model: AnyModel) -> None:
    hidden = model.config.hidden
    gains = {name: np.full(hidden, 2, np.float32) for name in layer_names(model.config)}
    folds = modulation_folds(model, gains)
    assert len(folds) == 6 * len(block_names(model.config)) + 2
    order = ["msa_shift", "msa_scale", "msa_gate", "mlp_shift", "mlp_scale", "mlp_gate"]
    for block in block_names(model.config):
        assert [folds[f"{block}.{chunk}"].offset for chunk in order] == [k * hidden for k in range(6)]
        assert folds[f"{block}.msa_gate"].gain is None and folds[f"{block}.mlp_gate"].gain is None
    assert folds["final.shift"].offset == folds["final.scale"].offset == 6 * hidden
    assert folds["final.shift"].gain is None and folds["final.scale"].gain is None
    assert all(fold.gain is None for fold in modulation_folds(model, {}).values())
