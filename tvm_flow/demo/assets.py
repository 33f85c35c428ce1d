"""What ships with the package: the demo model, its autoencoder, its captions and its sampler."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from tvm_flow.demo.captions import unknown_caption
from tvm_flow.demo.clips import FRAMES, SIZE
from tvm_flow.demo.vae import VAE
from tvm_flow.errors import CheckpointError
from tvm_flow.model import STDiT3, load_stdit3
from tvm_flow.sampler import SamplerConfig

WEIGHTS = Path(__file__).parent / "weights"
LATENT_SHAPE = (8, 8, 8, 8)
"""(channels, frames, rows, columns) of one clip's latent."""


class Captions(Mapping[str, tuple[Tensor, int]]):
    """Caption -> (tokens float32 [L, 384], zero after ``length``; length); others raise PromptError."""

    def __init__(self, names: list[str], tokens: Tensor, lengths: Tensor) -> None:
        self._rows = {name: row for row, name in enumerate(names)}
        self.tokens, self.lengths = tokens, lengths

    def __getitem__(self, caption: str) -> tuple[Tensor, int]:
        if caption not in self._rows:
            raise unknown_caption(caption)
        row = self._rows[caption]
        return self.tokens[row].float(), int(self.lengths[row])

    def __contains__(self, caption: object) -> bool:
        return caption in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def max_length(self) -> int:
        """L, the tokens of every caption with padding."""
        return self.tokens.shape[1]

    def batch(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """(tokens float32 [B, L, 384], mask bool [B, L]) for STDiT3.forward; raises PromptError."""
        rows = [self[caption] for caption in captions]
        lengths = torch.tensor([length for _, length in rows])
        return torch.stack([tokens for tokens, _ in rows]), torch.arange(self.max_length) < lengths[:, None]


def load_model(folder: Path = WEIGHTS) -> STDiT3:
    """The demo's STDiT3 in fp32, eval mode; raises CheckpointError."""
    return load_stdit3(folder)


def load_vae(folder: Path = WEIGHTS) -> VAE:
    """The demo's autoencoder in fp32, eval mode; raises CheckpointError."""
    vae = VAE()
    fill(vae, folder / "vae.safetensors")
    return vae


def load_captions(folder: Path = WEIGHTS) -> Captions:
    """The 288 captions' stored MiniLM tokens; raises CheckpointError."""
    path = folder / "captions.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            names = json.loads(file.metadata()["captions"])
            return Captions(names, file.get_tensor("tokens"), file.get_tensor("lengths"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error


def demo_sampler() -> SamplerConfig:
    """What the demo was trained for: 20 Euler steps, timestep ratio 3, 8 frames of 32x32 at 8 a second."""
    return SamplerConfig(steps=20, cfg_scale=3.0, fps=8.0, frames=FRAMES, height=SIZE, width=SIZE, ratio=3.0)


def demo_noise(count: int, seed: int) -> Tensor:
    """Unit Gaussian start, float32 [count, 8, 8, 8, 8]; a row depends on ``seed`` and its index only."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, *LATENT_SHAPE), generator=generator)


def fill(module: nn.Module, path: Path) -> None:
    """Load the weights ``path`` into ``module``, in fp32 and eval mode; raises CheckpointError."""
    try:
        module.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    module.eval().requires_grad_(False)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: expected the demo's weights, got: {error}; reinstall, or run scripts/train_demo")
