"""The parts of STDiT and STDiT3 blocks, under the names of Open-Sora's checkpoints.

Every linear that is quantized is a plain ``nn.Linear`` called once per forward, so a forward hook sees its
input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_flow.model.positions import rotate, timestep_embedding

NORM_EPS = 1e-6


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without affine parameters, then ``* (1 + scale) + shift``; x [B, N, C], vectors [B, 1, C]."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * (1 + scale) + shift


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v of [N, heads, L, d] -> [N, L, heads * d]; the softmax in fp32."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores.float() if bias is None else scores.float() + bias
    mixed: Tensor = scores.softmax(dim=-1).to(v.dtype) @ v
    return mixed.transpose(1, 2).flatten(2)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) * weight over the last axis (Llama's norm), in fp32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + NORM_EPS)
        return wide.to(x.dtype) * self.weight


class Attention(nn.Module):
    """Any attention; what `mixed` does can be watched, or done otherwise, on a module by itself."""

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `attend`."""
        return attend(q, k, v, bias)


class SelfAttention(Attention):
    """Attention with RMS-normalised q and k (STDiT3 only), and rope where the caller passes its tables."""

    def __init__(self, dim: int, heads: int, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm: nn.Module = RMSNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = RMSNorm(dim // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x [N, L, C] -> [N, L, C]; ``rope`` = (cos, sin), each [L, C / heads]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        return self.proj(self.mixed(q, k, v))  # type: ignore[no-any-return]


class CrossAttention(Attention):
    """Attention from video tokens to caption tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(dim, dim)
        self.kv_linear = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        """x [B, N, C], y [B, L, C], bias [B, 1, 1, L] (0 or -inf) -> [B, N, C]."""
        q = self.q_linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv_linear(y).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(self.mixed(q, k, v, bias))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """fc2(GELU_tanh(fc1(x)))."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., out]."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))  # type: ignore[no-any-return]


class ScalarEmbedder(nn.Module):
    """Linear, SiLU, Linear on the sinusoidal embedding of a scalar: a timestep, or frames per second."""

    def __init__(self, dim: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """t [B] -> [B, dim]."""
        out: Tensor = self.mlp(timestep_embedding(t, self.frequencies))
        return out


class CaptionEmbedder(nn.Module):
    """Projects caption tokens; ``y_embedding`` is the null caption of classifier-free guidance."""

    def __init__(self, channels: int, dim: int, max_length: int) -> None:
        super().__init__()
        self.y_embedding: Tensor
        self.register_buffer("y_embedding", torch.randn(max_length, channels) / channels**0.5)
        self.y_proj = Mlp(channels, dim, dim)

    def forward(self, y: Tensor) -> Tensor:
        """[B, L, channels] -> [B, L, dim]."""
        return self.y_proj(y)  # type: ignore[no-any-return]
