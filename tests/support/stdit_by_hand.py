"""STDiT stated once more: float64 numpy loops over named weights, one sample at a time (reference/stdit.md)."""

from __future__ import annotations

import math

import numpy as np
import torch

from tvm_flow.model import STDiT, STDiTConfig

Array = np.ndarray

CONFIG = STDiTConfig(
    depth=2, hidden=24, heads=2, in_channels=3, caption_channels=10, model_max_length=5, space_scale=0.5, time_scale=2.0
)


def make_model(config: STDiTConfig = CONFIG) -> STDiT:
    torch.manual_seed(0)
    return STDiT(config).eval().requires_grad_(False)


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gelu(h: Array) -> Array:
    return 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))


def silu(h: Array) -> Array:
    return h / (1 + np.exp(-h))


def norm(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def softmax(s: Array) -> Array:
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sin_cos(position: float, dim: int) -> Array:
    angles = [position * 10000.0 ** (-k / (dim // 2)) for k in range(dim // 2)]
    return np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


class ByHand:
    """Tokens are [T, S, C] here; ``y`` holds a sample's valid caption tokens only."""

    def __init__(self, model: STDiT) -> None:
        self.w = {k: v.double().numpy() for k, v in model.state_dict().items()}
        self.config = model.config

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def heads(self, q: Array, k: Array, v: Array) -> Array:
        dim = q.shape[-1] // self.config.heads
        cuts = [slice(h * dim, h * dim + dim) for h in range(self.config.heads)]
        return np.concatenate([softmax(q[:, c] @ k[:, c].T * dim**-0.5) @ v[:, c] for c in cuts], -1)

    def attention(self, name: str, x: Array) -> Array:
        return self.linear(f"{name}.proj", self.heads(*np.split(self.linear(f"{name}.qkv", x), 3, axis=-1)))

    def cross(self, name: str, x: Array, y: Array) -> Array:
        k, v = np.split(self.linear(f"{name}.kv_linear", y), 2, axis=-1)
        return self.linear(f"{name}.proj", self.heads(self.linear(f"{name}.q_linear", x), k, v))

    def spatial(self, name: str, x: Array) -> Array:
        return np.stack([self.attention(name, frame) for frame in x])

    def temporal(self, name: str, x: Array) -> Array:
        return np.stack([self.attention(name, x[:, s]) for s in range(x.shape[1])], axis=1)

    def with_times(self, x: Array) -> Array:
        return x + np.stack([[sin_cos(t / self.config.time_scale, x.shape[-1])] for t in range(len(x))])

    def block(self, index: int, x: Array, y: Array, t0: Array) -> Array:
        name = f"blocks.{index}"
        shift1, scale1, gate1, shift2, scale2, gate2 = self.w[f"{name}.scale_shift_table"] + t0.reshape(6, -1)
        x = x + gate1 * self.spatial(f"{name}.attn", norm(x) * (1 + scale1) + shift1)
        x = x + gate1 * self.temporal(f"{name}.attn_temp", self.with_times(x) if index == 0 else x)
        x = x + np.stack([self.cross(f"{name}.cross_attn", frame, y) for frame in x])
        m = norm(x) * (1 + scale2) + shift2
        return x + gate2 * self.linear(f"{name}.mlp.fc2", gelu(self.linear(f"{name}.mlp.fc1", m)))

    def patches(self, z: Array) -> Array:
        """[C, T, H, W] -> [T, S, hidden], positions added."""
        _, frames, rows, columns = z.shape
        kernel, half = self.w["x_embedder.proj.weight"].reshape(self.config.hidden, -1), self.config.hidden // 2
        x = np.empty((frames, rows // 2 * (columns // 2), self.config.hidden))
        for f, i, j in np.ndindex(frames, rows // 2, columns // 2):
            patch = z[:, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1)
            places = [sin_cos(place / self.config.space_scale, half) for place in (j, i)]
            x[f, i * (columns // 2) + j] = kernel @ patch + self.w["x_embedder.proj.bias"] + np.concatenate(places)
        return x

    def t_emb(self, t: float) -> Array:
        angles = t * np.exp(-math.log(10000) * np.arange(128) / 128)
        h = self.linear("t_embedder.mlp.0", np.concatenate([np.cos(angles), np.sin(angles)]))
        return self.linear("t_embedder.mlp.2", silu(h))

    def t0(self, t_emb: Array) -> Array:
        return self.linear("t_block.1", silu(t_emb))

    def caption(self, y: Array) -> Array:
        return self.linear("y_embedder.y_proj.fc2", gelu(self.linear("y_embedder.y_proj.fc1", y)))

    def final(self, x: Array, emb: Array) -> Array:
        shift, scale = self.w["final_layer.scale_shift_table"] + emb
        return self.linear("final_layer.linear", norm(x) * (1 + scale) + shift)

    def forward(self, z: Array, t: float, y: Array) -> Array:
        x, emb, y = self.patches(z), self.t_emb(t), self.caption(y)
        for index in range(self.config.depth):
            x = self.block(index, x, y, self.t0(emb))
        flat = self.final(x, emb)
        out = np.empty((2 * self.config.in_channels, *z.shape[1:]))
        for f, i, j in np.ndindex(z.shape[1], z.shape[2] // 2, z.shape[3] // 2):
            patch = flat[f, i * (z.shape[3] // 2) + j].reshape(2, 2, -1)
            out[:, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = patch.transpose(2, 0, 1)
        return out
