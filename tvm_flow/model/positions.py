"""Where a token is: timestep and 2D sin-cos embeddings, and rotary embeddings over frames."""

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


def spatial_embedding(rows: int, columns: int, dim: int, scale: float, base_size: int) -> Tensor:
    """2D sin-cos embedding -> float32 [rows * columns, dim], row-major; the first half encodes the column.

    Open-Sora v1.2 (PositionEmbedding2D): positions are divided by ``scale`` and stretched so that either axis
    spans ``base_size``; each half is [sin, cos] with frequencies 10000^(-k / (dim / 4)). Computed in float64.
    """
    quarter = dim // 4
    freqs = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    y = torch.arange(rows, dtype=torch.float64) / scale * (base_size / rows)
    x = torch.arange(columns, dtype=torch.float64) / scale * (base_size / columns)

    def encode(positions: Tensor) -> Tensor:
        angles = positions[:, None] * freqs[None]
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    along_x = encode(x)[None].expand(rows, columns, 2 * quarter)
    along_y = encode(y)[:, None].expand(rows, columns, 2 * quarter)
    return torch.cat([along_x, along_y], dim=-1).reshape(rows * columns, dim).float()


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
