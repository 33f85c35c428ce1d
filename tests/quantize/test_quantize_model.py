"""Quantizing a model: what each layer holds, what the result computes, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate import LayerRanges, Ranges, layer_names, model_sha256
from tvm_flow.errors import CalibrationError, ConfigError, QuantizeError
from tvm_flow.model import STDiT3
from tvm_flow.numerics import accumulate
from tvm_flow.numerics import quantize as to_int8
from tvm_flow.quantize import (
    FakeQuant,
    KeepFloat,
    QuantizedModel,
    Recipe,
    Smoothing,
    fake_velocity,
    load_quantized,
    quantize,
    quantize_model,
    summary,
)
from tvm_flow.quantize.fake import FakeLinear
from tvm_flow.sampler import SamplerConfig, model_velocity, sample, step_updates

RECIPES = Path(__file__).parents[2] / "calibration" / "recipes"


@pytest.fixture(scope="module")
def quantized(model: STDiT3, ranges: Ranges) -> QuantizedModel:
    return quantize_model(model, ranges, Recipe())


def noise(seed: int = 9) -> Tensor:
    return torch.randn(1, 4, 3, 6, 5, generator=torch.Generator().manual_seed(seed))


def error_db(quantized: QuantizedModel, model: STDiT3, sampler: SamplerConfig, caption: tuple[Tensor, Tensor]) -> float:
    """Signal to error of a denoised latent that calibration has seen, float against fake-quantized, in dB."""
    y, mask = caption
    z = noise(1)
    want = sample(model_velocity(model, y, mask, sampler), z, sampler)
    got = sample(fake_velocity(quantized, y, mask), z, sampler)
    return float(10 * torch.log10(want.square().mean() / (got - want).square().mean()))


# what it holds


def test_layers_have_the_documented_shapes_and_types(
    quantized: QuantizedModel, model: STDiT3, sampler: SamplerConfig
) -> None:
    assert tuple(quantized.layers) == layer_names(model.config)
    for name, layer in quantized.layers.items():
        n, k = model.get_submodule(name).weight.shape
        assert layer.weight_q is not None and layer.weight_scale is not None
        assert layer.weight_q.dtype == np.int8 and layer.weight_q.shape == (n, k)
        assert layer.weight_q.min() >= -127
        assert layer.weight_scale.shape == layer.bias.shape == (n,)
        assert layer.scale.shape == (sampler.steps, 2) and layer.zero_point is None
        assert layer.weight_f is None and not layer.float_steps.any()
        assert layer.sqnr_db is not None and layer.sqnr_db > 35
        for part in (layer.weight_scale, layer.bias, layer.scale):
            assert part.dtype == np.float32


def test_constants_of_the_step_graph(
    quantized: QuantizedModel, model: STDiT3, sampler: SamplerConfig, latent: tuple[int, ...]
) -> None:
    assert quantized.tables["position_embedding"].shape == (3 * 3, 32)  # 6 x 5 latent, patch 2: 3 rows, 3 columns
    np.testing.assert_array_equal(
        quantized.tables["position_embedding"], model.position_embedding(3, 3, 32.0, 32.0).numpy()
    )
    cos, sin = model.rope.tables(3)
    np.testing.assert_array_equal(quantized.tables["rope_cos"], cos.numpy())
    np.testing.assert_array_equal(quantized.tables["rope_sin"], sin.numpy())
    np.testing.assert_array_equal(quantized.timesteps, sampler.timesteps())
    np.testing.assert_array_equal(quantized.updates, step_updates(sampler))
    assert quantized.step_records.shape == (4, 7 * 32) and quantized.step_records.dtype == np.float32
    assert quantized.latent == latent and quantized.sampler == sampler and quantized.config == model.config


def test_nothing_of_the_timestep_networks_remains(quantized: QuantizedModel, model: STDiT3) -> None:
    for key, value in quantized.params.items():
        assert not any(word in key for word in ("t_embedder", "t_block", "fps_embedder", "table", "rope"))
        np.testing.assert_array_equal(value, model.state_dict()[key].numpy())
        assert value.dtype == np.float32
    held = set(quantized.params) | {f"{name}.{part}" for name in quantized.layers for part in ("weight", "bias")}
    left = {key for key in model.state_dict() if key not in held}
    words = ("t_embedder.", "fps_embedder.", "t_block.", "rope.", "scale_shift_table")
    assert all(any(word in key for word in words) for key in left)


def test_layers_kept_in_float(model: STDiT3, ranges: Ranges) -> None:
    rules = (KeepFloat("*.mlp.fc2", (0, 1)), KeepFloat("spatial_blocks.0.attn.proj"))
    made = quantize_model(model, ranges, Recipe(keep_float=rules))
    some, whole = made.layers["temporal_blocks.0.mlp.fc2"], made.layers["spatial_blocks.0.attn.proj"]
    assert some.float_steps.tolist() == [True, True, False, False]
    assert some.weight_q is not None and some.weight_f is not None and some.weight_scale is not None
    np.testing.assert_allclose(some.weight_q * some.weight_scale[:, None], some.weight_f, atol=some.weight_scale.max())
    assert whole.weight_q is None and whole.weight_scale is None and whole.sqnr_db is None
    assert whole.float_steps.all() and whole.weight_f is not None
    want = model.spatial_blocks[0].attn.proj.weight.numpy()
    np.testing.assert_array_equal(whole.weight_f, want, "a layer that is never quantized is not smoothed")


def test_smoothing_only_where_asked(model: STDiT3, ranges: Ranges) -> None:
    made = quantize_model(model, ranges, Recipe(Smoothing(0.5, ("temporal_*",))))
    for name, fold in made.folds.items():
        smoothed = name.startswith("temporal") and not name.endswith("gate")
        assert (fold.gain is not None) == smoothed, name
    assert made.layers["spatial_blocks.0.mlp.fc2"].input_gain is None
    assert made.layers["temporal_blocks.0.mlp.fc2"].input_gain is not None


def test_quantizing_twice_gives_the_same_bytes_and_leaves_the_model_alone(
    model: STDiT3, ranges_path: Path, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for name in ("a", "b"):
        quantize(model, ranges_path, RECIPES / "w8a8.yaml", tmp_path / name, progress=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# what it computes


@pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_stays_near_the_float_model(
    model: STDiT3,
    ranges_path: Path,
    sampler: SamplerConfig,
    caption: tuple[Tensor, Tensor],
    recipe: str,
    tmp_path: Path,
) -> None:
    made = quantize(model, ranges_path, RECIPES / f"{recipe}.yaml", tmp_path / "q", progress=False)
    assert error_db(made, model, sampler, caption) > (18 if made.recipe.smoothing is None else 30)


def test_smoothing_pays_where_channels_stick_out(
    model: STDiT3,
    ranges: Ranges,
    sampler: SamplerConfig,
    caption: tuple[Tensor, Tensor],
    quantized: QuantizedModel,
) -> None:
    plain = quantize_model(model, ranges, Recipe(smoothing=None))
    assert error_db(quantized, model, sampler, caption) > error_db(plain, model, sampler, caption) + 5


def test_each_quantized_linear_is_near_its_smoothed_float_linear(model: STDiT3, ranges: Ranges) -> None:
    """Both forms of a layer are at hand when some steps keep it in float: they differ by rounding alone."""
    made = quantize_model(model, ranges, Recipe(keep_float=(KeepFloat("*", (0, 1)),)))
    rng = np.random.default_rng(3)
    for name, layer in made.layers.items():
        gain = np.float32(1) if layer.input_gain is None else layer.input_gain
        s, sw, w = layer.scale[3, 0], layer.weight_scale, layer.weight_f
        assert sw is not None and w is not None
        x = torch.from_numpy(rng.uniform(-127, 127, (5, w.shape[1])).astype(np.float32) * s / gain)
        exact, rounded = (FakeLinear(layer, step, 0, torch.float64)(x.double()).numpy() for step in (0, 3))
        smoothed = np.abs(x.numpy() * gain)
        bound = 0.51 * s * np.abs(w).sum(1) + 0.51 * sw * smoothed.sum(1)[:, None] + 0.26 * s * sw * w.shape[1]
        assert (np.abs(exact - rounded) <= bound + 1e-6).all(), name


@pytest.mark.parametrize("activation", ["symmetric", "asymmetric"])
def test_fake_quant_agrees_with_the_integer_arithmetic(model: STDiT3, ranges: Ranges, activation: str) -> None:
    made = quantize_model(model, ranges, Recipe(activation=activation))
    rng = np.random.default_rng(4)
    for name, layer in made.layers.items():
        assert layer.weight_q is not None and layer.weight_scale is not None
        zero = 0 if layer.zero_point is None else int(layer.zero_point[1, 1])
        s = layer.scale[1, 1]
        x = rng.normal(0, 60, (4, layer.weight_q.shape[1])).astype(np.float32) * s
        gained = x if layer.input_gain is None else x * layer.input_gain
        acc = accumulate(to_int8(gained, s, zero), layer.weight_q, zero)
        want = acc * (s * layer.weight_scale) + layer.bias
        got = FakeLinear(layer, 1, 1, torch.float32)(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()), err_msg=name)


@pytest.mark.parametrize("activation", ["symmetric", "asymmetric"])
def test_the_caption_is_quantized_alike_at_every_step(model: STDiT3, ranges: Ranges, activation: str) -> None:
    """Ranges that a rounding moved from step to step must not move the scale: K and V are made once per prompt."""
    moved = {}
    for name, layer in ranges.layers.items():
        factor = np.linspace(1, 1.5, len(layer.min), dtype=np.float32)[:, None]
        moved[name] = LayerRanges(layer.min * factor, layer.max * factor, layer.absmax * factor[..., None])
    quantized = quantize_model(model, dataclasses.replace(ranges, layers=moved), Recipe(activation=activation))
    for name, made in quantized.layers.items():
        parts = [made.scale] if made.zero_point is None else [made.scale, made.zero_point]
        same = all(bool((part == part[:1]).all()) for part in parts)
        assert same == name.endswith("cross_attn.kv_linear"), name
    again = quantize_model(model, ranges, Recipe()).layers["spatial_blocks.0.cross_attn.kv_linear"]
    assert (again.scale[:, 0] != again.scale[:, 1]).all(), "each branch has its own"


def test_branches_have_their_own_scales(
    quantized: QuantizedModel, model: STDiT3, caption: tuple[Tensor, Tensor]
) -> None:
    y, mask = caption
    cond, uncond = (FakeQuant(quantized, 1, branch)(noise(), y, mask) for branch in (0, 1))
    assert not torch.equal(cond, uncond)
    velocity = fake_velocity(quantized, y, mask)(noise(), 1, 0.0)
    assert torch.equal(velocity[0], cond[:, :4])
    null = FakeQuant(quantized, 1, 1)(noise(), model.null_caption(1), mask)
    assert torch.equal(velocity[1], null[:, :4])


# the command


def test_a_current_output_is_only_read(model: STDiT3, ranges_path: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("ranges: per_step")
    quantize(model, ranges_path, recipe, tmp_path / "q", progress=False)
    before = (tmp_path / "q").stat()
    quantize(model, ranges_path, recipe, tmp_path / "q", progress=False)
    assert (tmp_path / "q").stat().st_mtime_ns == before.st_mtime_ns
    recipe.write_text("ranges: all_steps")
    made = quantize(model, ranges_path, recipe, tmp_path / "q", progress=False)
    assert made.recipe.ranges == load_quantized(tmp_path / "q").recipe.ranges == "all_steps"


def test_progress_counts_layers(model: STDiT3, ranges: Ranges, capsys: pytest.CaptureFixture[str]) -> None:
    quantize_model(model, ranges, Recipe(), progress=True)
    assert "28/28" in capsys.readouterr().err


def test_summary_has_a_line_per_kind(model: STDiT3, ranges: Ranges) -> None:
    rules = (KeepFloat("*.mlp.fc1"), KeepFloat("*.mlp.fc2", (0, 1)))
    lines = summary(quantize_model(model, ranges, Recipe(keep_float=rules))).splitlines()
    assert lines[0] == "28 layers, 4 steps: symmetric, per_step, branches separate, alpha 0.5"
    table, legend = lines[:9], lines[9:]
    assert len({len(line) for line in table[1:]}) == 1
    fields = {line.split()[0]: line.split()[1:] for line in table[2:]}
    assert fields["attn.qkv"][:2] == ["4", "12k"] and fields["attn.qkv"][-1] == "0%"
    assert fields["mlp.fc1"] == ["4", "0k", "-", "-", "-", "-", "100%"]
    assert fields["mlp.fc2"][-1] == "50%" and float(fields["mlp.fc2"][4]) >= 1
    assert "no smoothing" in summary(quantize_model(model, ranges, Recipe(smoothing=None)))
    asq = summary(quantize_model(model, ranges, Recipe(ranges="all_steps", branches="shared"))).splitlines()
    assert {tuple(line.split()[5:7]) for line in asq[2:9]} == {("1.00", "1.00")}
    named = [line[2:12].strip() for line in legend]
    assert named == ["weights", "SQNR dB", "worst", "spread", "cond/unc", "float"]
    assert " ".join(table[1].split()) == " ".join(["kind", "layers", *named]), "every column is explained, in order"


# what is refused


def test_ranges_of_another_model_are_refused(model: STDiT3, ranges: Ranges) -> None:
    other = copy.deepcopy(model)
    other.final_layer.linear.bias.data[0] += 1
    with pytest.raises(
        CalibrationError, match=r"ranges: expected those of the model .*, got those of .*; calibrate this"
    ):
        quantize_model(other, ranges, Recipe())


def test_ranges_without_a_layer_or_of_other_channels_are_refused(model: STDiT3, ranges: Ranges) -> None:
    name = "spatial_blocks.0.mlp.fc2"
    fewer = {key: layer for key, layer in ranges.layers.items() if key != name}
    with pytest.raises(CalibrationError, match=f"expected the 28 quantized .*, got 27; they differ in {name};"):
        quantize_model(model, dataclasses.replace(ranges, layers=fewer), Recipe())
    one = np.ones((4, 2), np.float32)
    odd = {**ranges.layers, name: LayerRanges(-one, one, np.ones((4, 2, 5), np.float32))}
    with pytest.raises(CalibrationError, match=f"{name}: expected 128 channels, got 5; calibrate this model"):
        quantize_model(model, dataclasses.replace(ranges, layers=odd), Recipe())


def test_weights_that_are_not_finite_are_refused(model: STDiT3, ranges: Ranges) -> None:
    other = copy.deepcopy(model)
    other.spatial_blocks[1].mlp.fc1.weight.data[0, 0] = torch.nan
    mine = dataclasses.replace(ranges, model_sha256=model_sha256(other))
    with pytest.raises(QuantizeError, match=r"spatial_blocks.1.mlp.fc1: weight: expected finite"):
        quantize_model(other, mine, Recipe(smoothing=None))


def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_written(
    model: STDiT3, ranges_path: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("keep_float: [{layers: '*', steps: [3, 4]}]")
    with pytest.raises(ConfigError, match=r"expected steps \[first, last\] within 0 to 3, got \[3, 4\]"):
        quantize(model, ranges_path, recipe, tmp_path / "q", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]
