"""Where a token is: sin-cos embeddings of timestep, place and frame, and rotary embeddings over frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding of ``t`` [B] -> float32 [B, dim]: cosines first, then sines (DiT's order)."""
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * freqs[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def spatial_embedding(rows: int, columns: int, dim: int, scale: float, base_size: int | None = None) -> Tensor:
    """2D sin-cos embedding -> float32 [rows * columns, dim], row-major; the first half encodes the column.

    Positions are divided by ``scale``; each half is [sin, cos] with frequencies 10000^(-k / (dim / 4)), in
    float64. Open-Sora v1.2 (PositionEmbedding2D) also stretches them so that either axis spans ``base_size``;
    v1.0 (get_2d_sincos_pos_embed) does not.
    """
    y = torch.arange(rows, dtype=torch.float64) / scale
    x = torch.arange(columns, dtype=torch.float64) / scale
    if base_size is not None:
        y, x = y * (base_size / rows), x * (base_size / columns)
    along_x = _sin_cos(x, dim // 2)[None].expand(rows, columns, -1)
    along_y = _sin_cos(y, dim // 2)[:, None].expand(rows, columns, -1)
    return torch.cat([along_x, along_y], dim=-1).reshape(rows * columns, dim).float()


def temporal_embedding(frames: int, dim: int, scale: float) -> Tensor:
    """1D sin-cos embedding of frame numbers divided by ``scale`` -> float32 [frames, dim], [sin, cos].

    Open-Sora v1.0 (get_1d_sincos_pos_embed), in float64.
    """
    return _sin_cos(torch.arange(frames, dtype=torch.float64) / scale, dim).float()


def _sin_cos(positions: Tensor, dim: int) -> Tensor:
    half = dim // 2
    angles = positions[:, None] * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs (x[2k], x[2k+1]) of ``x`` [..., L, D] by the angles behind ``cos``, ``sin`` [L, D]."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return x * cos + turned * sin


class Rope(nn.Module):
    """Rotary embedding over frames; ``freqs`` [head_dim / 2] is stored in checkpoints but never trained."""

    def __init__(self, head_dim: int, theta: float = 10000.0) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self.freqs = nn.Parameter(theta**-exponents, requires_grad=False)

    def tables(self, frames: int) -> tuple[Tensor, Tensor]:
        """(cos, sin), each float32 [frames, head_dim]; every frequency stands twice, side by side."""
        positions = torch.arange(frames, dtype=torch.float32, device=self.freqs.device)
        angles = (positions[:, None] * self.freqs.float()[None]).repeat_interleave(2, dim=-1)
        return angles.cos(), angles.sin()
