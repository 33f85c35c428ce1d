"""Between latents and tokens: what STDiT and STDiT3 do before, between and after their blocks.

Tokens are [B, T*S, C]: frames outside, the places of a frame (rows, then columns) inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_flow.model.config import ModelConfig
from tvm_flow.model.layers import CaptionEmbedder, modulate


class Video(NamedTuple):
    """What the model is told of a video beside its latent: frames per second (a number or [B]) and size in pixels."""

    fps: float | Tensor
    height: float
    width: float


class PatchEmbed(nn.Module):
    """Conv3d with kernel = stride = patch; a latent that does not divide is padded at its far ends."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.proj = nn.Conv3d(config.in_channels, config.hidden, config.patch, stride=config.patch)

    def forward(self, z: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, hidden, T', H', W'], in the weights' dtype."""
        pad = [extra for size, p in zip(z.shape[:1:-1], self.patch[::-1], strict=True) for extra in (0, -size % p)]
        return self.proj(F.pad(z.to(self.proj.weight.dtype), pad))  # type: ignore[no-any-return]


class FinalLayer(nn.Module):
    """Modulation by t_emb (not t0), then the projection of every token to its patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        kt, kh, kw = config.patch
        self.scale_shift_table = nn.Parameter(torch.randn(2, config.hidden) / config.hidden**0.5)
        self.linear = nn.Linear(config.hidden, kt * kh * kw * config.out_channels)

    def forward(self, x: Tensor, t_emb: Tensor) -> Tensor:
        """x [B, N, C], t_emb [B, C] -> [B, N, patch * out_channels]."""
        shift, scale = (self.scale_shift_table + t_emb[:, None])[:, :, None].unbind(1)
        return self.linear(modulate(x, shift, scale))  # type: ignore[no-any-return]


def within_frames(attention: Callable[[Tensor], Tensor], x: Tensor, frames: int) -> Tensor:
    """Spatial attention: [B, T*S, C] -> the same; ``attention`` sees each frame, [B*T, S, C]."""
    return attention(x.reshape(x.shape[0] * frames, -1, x.shape[2])).reshape(x.shape)


def across_frames(attention: Callable[[Tensor], Tensor], x: Tensor, frames: int) -> Tensor:
    """Temporal attention: [B, T*S, C] -> the same; ``attention`` sees each place over time, [B*S, T, C]."""
    batch = x.shape[0]
    grid = x.reshape(batch, frames, -1, x.shape[2])
    mixed = attention(grid.transpose(1, 2).flatten(0, 1))
    return mixed.reshape(batch, -1, frames, x.shape[2]).transpose(1, 2).flatten(1, 2)


class VideoTransformer(nn.Module):
    """What STDiT and STDiT3 share outside their blocks; each builds the modules in its checkpoint's order."""

    config: ModelConfig
    t_block: nn.Sequential
    y_embedder: CaptionEmbedder

    def t0(self, t_emb: Tensor) -> Tensor:
        """[B, hidden] -> [B, 6 * hidden]: shift, scale, gate of attention, then of the MLP."""
        return self.t_block(t_emb)  # type: ignore[no-any-return]

    def caption_bias(self, mask: Tensor) -> Tensor:
        """mask [B, L] bool (True = a token) -> float32 [B, 1, 1, L]: 0, or -inf for padding."""
        return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))[:, None, None]

    def null_caption(self, batch: int) -> Tensor:
        """The unconditional half's caption, [batch, L, caption_channels]; use it with the prompt's mask."""
        return self.y_embedder.y_embedding.expand(batch, -1, -1)

    def unpatchify(self, x: Tensor, grid: tuple[int, int, int], size: torch.Size) -> Tensor:
        """[B, N, kt*kh*kw*C_out] -> [B, C_out, *size]; channels innermost in a patch, padding cut off."""
        kt, kh, kw = self.config.patch
        frames, h, w = grid
        x = x.reshape(x.shape[0], frames, h, w, kt, kh, kw, self.config.out_channels)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(x.shape[0], -1, frames * kt, h * kh, w * kw)
        return x[:, :, : size[0], : size[1], : size[2]]
