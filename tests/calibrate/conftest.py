"""A model small enough to calibrate in a fraction of a second, with captions of unequal length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate import CalibrationPrompt, Embed
from tvm_flow.errors import PromptError
from tvm_flow.model import AnyModel, STDiT, STDiT3, STDiT3Config, STDiTConfig
from tvm_flow.sampler import SamplerConfig

TOKENS = 5
LENGTHS = {"one": 2, "two": 4, "three": 5}


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> AnyModel:
    """The STDiT3, or what a test asks for: ``pytest.mark.parametrize("model", ["STDiT"], indirect=True)``."""
    torch.manual_seed(0)
    sizes = {"depth": 1, "hidden": 16, "heads": 2, "caption_channels": 8, "model_max_length": TOKENS}
    if getattr(request, "param", "STDiT3") == "STDiT":
        return STDiT(STDiTConfig(**sizes)).eval().requires_grad_(False)
    return STDiT3(STDiT3Config(**sizes)).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def sampler() -> SamplerConfig:
    return SamplerConfig(steps=3, cfg_scale=2.0, fps=8.0, frames=2, height=32, width=32)


@pytest.fixture(scope="session")
def latent() -> tuple[int, int, int, int]:
    return (4, 2, 5, 4)


@pytest.fixture(scope="session")
def prompts() -> list[CalibrationPrompt]:
    return [CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS)]


@pytest.fixture(scope="session")
def embed() -> Embed:
    """Tokens from a caption's own generator; padding holds values that would dominate every range."""
    return _embed


def _embed(captions: list[str]) -> tuple[Tensor, Tensor]:
    rows = []
    for caption in captions:
        if caption not in LENGTHS:
            raise PromptError(f"prompt {caption!r}: unknown")
        rows.append(torch.randn(TOKENS, 8, generator=torch.Generator().manual_seed(len(caption))))
    lengths = torch.tensor([LENGTHS[caption] for caption in captions])
    mask = torch.arange(TOKENS) < lengths[:, None]
    return torch.stack(rows).masked_fill(~mask[..., None], 1e4), mask
