"""Tiny calibrated models with outlier channels, so that smoothing has something to do.

`model` is the STDiT3 unless a test asks for another: ``pytest.mark.parametrize("model", MODELS, indirect=True)``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate import CalibrationPrompt, Denoising, Ranges, calibrate, load_ranges
from tvm_flow.calibrate.samples import Samples, sample_inputs
from tvm_flow.model import AnyModel, STDiT, STDiT3, STDiT3Block, STDiT3Config, STDiTBlock, STDiTConfig
from tvm_flow.quantize.prepare import Fitting
from tvm_flow.sampler import SamplerConfig

LENGTHS = {"short": 3, "a longer one": 5}
_SIZES = {"depth": 2, "hidden": 32, "heads": 2, "caption_channels": 8, "model_max_length": 6}
_MODELS = {
    "STDiT3": lambda: STDiT3(STDiT3Config(**_SIZES)),
    "STDiT": lambda: STDiT(STDiTConfig(**_SIZES, space_scale=0.5, time_scale=2.0)),
}


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> AnyModel:
    torch.manual_seed(0)
    net = _MODELS[getattr(request, "param", "STDiT3")]().eval().requires_grad_(False)
    for module in net.modules():
        if type(module).__name__ == "RMSNorm":
            module.weight.data = 1 + 0.3 * torch.randn_like(module.weight)
        if isinstance(module, STDiTBlock | STDiT3Block):
            module.scale_shift_table.data[1, 5] += 20  # scale_msa of one channel
            module.scale_shift_table.data[4, 7] += 15  # scale_mlp of another
            module.attn.qkv.weight.data[-3] *= 12  # a row of V
            module.cross_attn.kv_linear.weight.data[-4] *= 12
        if isinstance(module, STDiTBlock):
            module.attn_temp.qkv.weight.data[-5] *= 12
    net.t_block[1].weight.data *= 5
    return net


@pytest.fixture(scope="session")
def sampler() -> SamplerConfig:
    return SamplerConfig(steps=4, cfg_scale=2.0, fps=8.0, frames=3, height=32, width=32)


@pytest.fixture(scope="session")
def latent() -> tuple[int, int, int, int]:
    return (4, 3, 6, 5)


@pytest.fixture(scope="session")
def caption() -> tuple[Tensor, Tensor]:
    """Tokens [1, 6, 8] and mask [1, 6] of a calibrated prompt."""
    return embed(["a longer one"])


@pytest.fixture(scope="session")
def ranges_path(
    model: AnyModel,
    sampler: SamplerConfig,
    latent: tuple[int, int, int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("calibrated") / "ranges.safetensors"
    prompts = [CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS)]
    calibrate(Denoising(model, sampler, latent), prompts, embed, path, progress=False)
    return path


@pytest.fixture(scope="session")
def ranges(ranges_path: Path) -> Ranges:
    return load_ranges(ranges_path)


@pytest.fixture(scope="session")
def samples(model: AnyModel, sampler: SamplerConfig, latent: tuple[int, int, int, int]) -> Samples:
    """Inputs of the linears over the same trajectories."""
    prompts = [CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS)]
    return sample_inputs(Denoising(model, sampler, latent), prompts, embed, rows=20, progress=False)


@pytest.fixture(scope="session")
def fitting(model: AnyModel, sampler: SamplerConfig, latent: tuple[int, int, int, int]) -> Fitting:
    """The same trajectories, of which nothing was sampled yet."""
    prompts = [CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS)]
    return Fitting(Denoising(model, sampler, latent), prompts, embed)


def embed(captions: list[str]) -> tuple[Tensor, Tensor]:
    tokens = [torch.randn(6, 8, generator=torch.Generator().manual_seed(len(text))) for text in captions]
    lengths = torch.tensor([LENGTHS[text] for text in captions])
    return torch.stack(tokens), torch.arange(6) < lengths[:, None]
