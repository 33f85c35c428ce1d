"""Models small enough to compile in seconds, through every stage before the build; the STDiT3 unless said otherwise."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tvm_flow.calibrate import CalibrationPrompt, Denoising, block_names, calibrate
from tvm_flow.export import Exported, export
from tvm_flow.model import AnyConfig, AnyModel, STDiT, STDiT3, STDiT3Config, STDiTConfig
from tvm_flow.quantize.build import quantize
from tvm_flow.quantize.quantized import QuantizedModel
from tvm_flow.sampler import SamplerConfig
from tvm_flow.target.target_names import targets_folder

CONFIG = STDiT3Config(depth=1, hidden=32, heads=2, caption_channels=8, model_max_length=6)
STDIT_CONFIG = STDiTConfig(
    depth=2, hidden=32, heads=2, caption_channels=8, model_max_length=6, space_scale=0.5, time_scale=2.0
)
SAMPLER = SamplerConfig(steps=3, cfg_scale=2.0, fps=8.0, frames=3, height=32, width=32)
LATENT = (4, 3, 6, 4)
LENGTHS = {"short": 3, "a longer one": 5}
RECIPES = targets_folder().parent / "calibration" / "recipes"


def embed(captions: list[str]) -> tuple[Tensor, Tensor]:
    tokens = [torch.randn(6, 8, generator=torch.Generator().manual_seed(len(text))) for text in captions]
    lengths = torch.tensor([LENGTHS[text] for text in captions])
    return torch.stack(tokens), torch.arange(6) < lengths[:, None]


def make_model(config: AnyConfig = CONFIG) -> AnyModel:
    """Random, with weights large enough that int8 has something to lose."""
    torch.manual_seed(0)
    model = STDiT(config) if isinstance(config, STDiTConfig) else STDiT3(config)
    model = model.eval().requires_grad_(False)
    model.t_block[1].weight.data *= 5
    torch.nn.init.normal_(model.final_layer.linear.weight, std=0.1)
    for block in block_names(config):
        torch.nn.init.normal_(model.get_submodule(block).cross_attn.proj.weight, std=0.2)
    return model


def make_ranges(
    folder: Path,
    sampler: SamplerConfig = SAMPLER,
    config: AnyConfig = CONFIG,
    latent: tuple[int, int, int, int] = LATENT,
) -> Path:
    """A calibrated ranges file."""
    prompts = [CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS)]
    denoising = Denoising(make_model(config), sampler, latent)
    calibrate(denoising, prompts, embed, folder / "ranges.safetensors", progress=False)
    return folder / "ranges.safetensors"


def make_export(ranges: Path, recipe: str, folder: Path, config: AnyConfig = CONFIG) -> tuple[QuantizedModel, Exported]:
    """The model quantized by a shipped recipe, and its graphs in ``folder``."""
    recipe_file, output = RECIPES / f"{recipe}.yaml", folder / f"{recipe}.safetensors"
    output.parent.mkdir(exist_ok=True)
    quantized = quantize(make_model(config), ranges, recipe_file, output, embed, progress=False)
    tokens, mask = embed(["a longer one"])
    caption = (tokens[0].numpy(), int(mask.sum()))
    return quantized, export(quantized, folder / recipe, caption, progress=False)
