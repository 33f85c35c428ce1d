"""Outliers change what quantizers meet, and nothing of what the model computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_model import CONFIG, LATENT, LENGTHS, SAMPLER, STDIT_CONFIG, embed, make_model
from torch import Tensor

from tvm_flow.calibrate import CalibrationPrompt, Denoising, LayerRanges, Ranges, calibrate
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.errors import ConfigError
from tvm_flow.model import AnyConfig, AnyModel
from tvm_flow.quality.outliers import Outliers, Place, channel_factors, load_outliers, with_outliers
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import SimulatedLayer, StaticCodes
from tvm_flow.sampler import model_outputs
from tvm_flow.shipped import shipped_folder

PROMPTS = [CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS)]
SHIPPED = shipped_folder("calibration") / "outliers.yaml"


def calibrated(model: AnyModel, folder: Path) -> Ranges:
    return calibrate(Denoising(model, SAMPLER, LATENT), PROMPTS, embed, folder / "ranges.safetensors", progress=False)


def outputs(model: AnyModel, dtype: torch.dtype) -> list[Tensor]:
    """Both branches at every step, from one latent; time embeddings stay what they are in float32."""
    tokens, mask = embed(["a longer one"])
    z = torch.randn(1, *LATENT, generator=torch.Generator().manual_seed(4))
    predict = model_outputs(model, tokens.to(dtype), mask, SAMPLER)
    return [part for step, t in enumerate(SAMPLER.timesteps()) for part in predict(z, step, t)]


@pytest.mark.parametrize("config", [CONFIG, STDIT_CONFIG], ids=["STDiT3", "STDiT"])
def test_the_model_with_outliers_has_the_bits_of_the_model_without(config: AnyConfig, tmp_path: Path) -> None:
    """Powers of two round nothing: so it holds in float32 already, and in float64 below."""
    model = make_model(config)
    changed = with_outliers(model, calibrated(model, tmp_path), load_outliers(SHIPPED))
    for before, after in zip(outputs(model, torch.float32), outputs(changed, torch.float32), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("config", [CONFIG, STDIT_CONFIG], ids=["STDiT3", "STDiT"])
def test_blocks_compute_the_same_in_float64(config: AnyConfig, tmp_path: Path) -> None:
    model = make_model(config)
    changed = with_outliers(model, calibrated(model, tmp_path), load_outliers(SHIPPED))
    for name in ("attn.qkv", "cross_attn.q_linear", "mlp.fc1", "mlp.fc2"):
        block = "blocks.1" if config is STDIT_CONFIG else "temporal_blocks.0"
        before, after = (net.double().get_submodule(f"{block}.{name}") for net in (model, changed))
        x = torch.randn(7, before.in_features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        assert not torch.equal(before.weight, after.weight)
        assert torch.equal(before(x), after(x))


def test_quantizers_meet_outliers_of_the_stated_size(tmp_path: Path) -> None:
    model = make_model()
    ranges = calibrated(model, tmp_path)
    changed = with_outliers(model, ranges, Outliers((Place("*.mlp.fc2", 0.01, 64.0),)))
    inputs = sample_inputs(Denoising(changed, SAMPLER, LATENT), PROMPTS, embed, rows=4, progress=False)
    for name, layer in ranges.layers.items():
        grown = inputs[name].ranges().absmax / np.maximum(layer.absmax, 1e-30)
        factors = np.unique(grown[layer.absmax > 0].round(3))
        assert factors.tolist() == ([1, 64] if name.endswith("mlp.fc2") else [1]), name
    wide = make_scheme(changed, Recipe(smoothing=None), inputs).layers["spatial_blocks.0.mlp.fc2"]
    assert isinstance(wide, SimulatedLayer) and isinstance(wide.codes, StaticCodes)


def test_the_channels_that_drift_most_are_chosen_and_idle_ones_are_not() -> None:
    absmax = np.ones((3, 2, 6), np.float32)
    absmax[0, :, 2] = 9  # drifts
    absmax[1, :, 4] = 5
    absmax[:, :, 1] = [[1e-9], [1e-5], [1e-9]]  # drifts, and does nothing
    ranges = LayerRanges(-absmax.max(-1), absmax.max(-1), absmax)
    assert channel_factors(ranges, Place("*", 0.01, 8.0)).tolist() == [1, 1, 8, 1, 1, 1]
    assert channel_factors(ranges, Place("*", 0.33, 8.0)).tolist() == [1, 1, 8, 1, 8, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("places: [{layers: '*', share: 0.1, factor: 3}]", "factor: expected a power of two, .* got 3"),
        ("places: []", "places: expected a list of layers, share and factor"),
        ("places: [{layers: '*'}]", "missing keys"),
        ("{}", "missing keys"),
        ("places: 3", "expected a mapping"),
    ],
)
def test_mistakes_are_told_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "outliers.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"outliers.yaml: .*{message}"):
        load_outliers(path)
