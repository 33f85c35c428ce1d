"""Tiny models calibrated, quantized and exported under several recipes, each once in a session.

The model is the STDiT3 unless a test module asks for another of `MODELS`:
``pytestmark = pytest.mark.parametrize("chosen", MODELS, indirect=True)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tvm_flow.calibrate import CalibrationPrompt, Denoising, Ranges, calibrate, load_ranges
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.export import Exported, export
from tvm_flow.export.graph import MASKED
from tvm_flow.model import AnyConfig, AnyModel, STDiT, STDiT3, STDiT3Config, STDiTConfig
from tvm_flow.quantize import KeepFloat, QuantizedModel, Recipe, quantize_model
from tvm_flow.quantize.recipe_parts import Fit, Widths
from tvm_flow.sampler import SamplerConfig


@dataclass(frozen=True)
class Tiny:
    """A model to be made, and the latent that it is exported for."""

    config: AnyConfig
    latent: tuple[int, int, int, int] = (4, 3, 6, 4)


CONFIG = STDiT3Config(depth=1, hidden=32, heads=2, caption_channels=8, model_max_length=6)
STDIT_CONFIG = STDiTConfig(
    depth=2, hidden=32, heads=2, caption_channels=8, model_max_length=6, space_scale=0.5, time_scale=2.0
)
MODELS = {
    "STDiT3": Tiny(CONFIG),
    "STDiT3 padded": Tiny(CONFIG, (4, 3, 5, 3)),
    "STDiT": Tiny(STDIT_CONFIG),
    "STDiT padded": Tiny(replace(STDIT_CONFIG, patch=(2, 2, 2)), (4, 3, 5, 4)),
}
SAMPLER = SamplerConfig(steps=3, cfg_scale=2.0, fps=8.0, frames=3, height=32, width=32)
LENGTHS = {"short": 3, "a longer one": 5}
RECIPES = {
    "symmetric": Recipe(),
    "asymmetric": Recipe(activation="asymmetric"),
    "float": Recipe(smoothing=None, keep_float=(KeepFloat("*"),)),
    "mixed": Recipe(keep_float=(KeepFloat("*.mlp.fc2", (0, 0)),)),
    "fitted": Recipe(
        widths=Widths(weights=4),
        groups=2,
        keep_float=(KeepFloat("*.cross_attn.kv_linear"), KeepFloat("*.attn.*", (1, 1))),
        fit=Fit(clip="mse", weight_clip="mse", rounding="gptq", center="step", correction="group"),
    ),
}
Quantizer = Callable[[str], QuantizedModel]
Exporter = Callable[[str], Exported]


def embed(captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = [torch.randn(6, 8, generator=torch.Generator().manual_seed(len(text))) for text in captions]
    lengths = torch.tensor([LENGTHS[text] for text in captions])
    return torch.stack(tokens), torch.arange(6) < lengths[:, None]


def feeds(latent: tuple[int, ...], seed: int = 0, length: int = 5) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of a step graph, for a calibrated caption."""
    z = torch.randn(latent, generator=torch.Generator().manual_seed(seed)).numpy()
    mask = np.where(np.arange(6) < length, 0.0, MASKED).astype(np.float32)
    return {"z": z, "y": embed(["a longer one"])[0][0].numpy(), "mask": mask}


@pytest.fixture(scope="session")
def chosen(request: pytest.FixtureRequest) -> Tiny:
    """The model of the tests: the STDiT3, or the one of `MODELS` that a module asks for."""
    return MODELS[getattr(request, "param", "STDiT3")]


@pytest.fixture(scope="session")
def tiny(chosen: Tiny) -> AnyModel:
    """Every weight that starts at zero is random here, so that every part of the graph shows in its output."""
    torch.manual_seed(0)
    model = STDiT(chosen.config) if isinstance(chosen.config, STDiTConfig) else STDiT3(chosen.config)
    model = model.eval().requires_grad_(False)
    model.t_block[1].weight.data *= 5
    torch.nn.init.normal_(model.final_layer.linear.weight, std=0.1)
    torch.nn.init.normal_(model.final_layer.linear.bias, std=0.1)
    for name, module in model.named_modules():
        if type(module).__name__ == "RMSNorm":
            module.weight.data = 1 + 0.3 * torch.randn_like(module.weight)
        if name.endswith("cross_attn.proj"):
            torch.nn.init.normal_(module.weight, std=0.2)
        elif name.endswith(("qkv", "attn.proj", "attn_temp.proj", "kv_linear", "mlp.fc1")):
            torch.nn.init.normal_(module.bias, std=0.1)
    return model


@pytest.fixture(scope="session")
def tiny_ranges(tiny: AnyModel, chosen: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Ranges:
    path = tmp_path_factory.mktemp("ranges") / "ranges.safetensors"
    prompts = [CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS)]
    calibrate(Denoising(tiny, SAMPLER, chosen.latent), prompts, embed, path, progress=False)
    return load_ranges(path)


@pytest.fixture(scope="session")
def quantizer(tiny: AnyModel, tiny_ranges: Ranges) -> Quantizer:
    """The tiny model under a recipe of `RECIPES`."""
    denoising = Denoising(tiny, SAMPLER, tiny_ranges.latent)
    samples = sample_inputs(denoising, tiny_ranges.prompts, embed, rows=8, progress=False)
    return cache(lambda name: quantize_model(tiny, tiny_ranges, RECIPES[name], samples))


@pytest.fixture(scope="session")
def exporter(quantizer: Quantizer, tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """The tiny model's graphs under a recipe of `RECIPES`."""
    folder = tmp_path_factory.mktemp("exports")

    def write(name: str) -> Exported:
        output: Path = folder / name
        return export(quantizer(name), output, progress=False)

    return cache(write)
