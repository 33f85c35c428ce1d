"""STDiT3 stated once more: float64 numpy loops over named weights, one sample at a time (reference/stdit.md)."""

from __future__ import annotations

import math

import numpy as np
import torch

from tvm_flow.model import STDiT3, STDiT3Config

Array = np.ndarray

CONFIG = STDiT3Config(
    depth=2, hidden=24, heads=2, in_channels=3, caption_channels=10, model_max_length=5, input_sq_size=32
)


def make_model() -> STDiT3:
    """Norms that start at one are random here."""
    torch.manual_seed(0)
    net = STDiT3(CONFIG)
    for norm in (m for m in net.modules() if type(m).__name__ == "RMSNorm"):
        norm.weight.data = 1 + 0.3 * torch.randn_like(norm.weight)
    return net.eval().requires_grad_(False)


class ByHand:
    """Tokens are [T, S, C] here; ``y`` holds a sample's valid caption tokens only."""

    def __init__(self, model: STDiT3) -> None:
        self.w = {k: v.double().numpy() for k, v in model.state_dict().items()}
        self.heads = CONFIG.heads

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def scalar(self, name: str, t: float) -> Array:
        angles = t * np.exp(-math.log(10000) * np.arange(128) / 128)
        h = self.linear(f"{name}.mlp.0", np.concatenate([np.cos(angles), np.sin(angles)]))
        return self.linear(f"{name}.mlp.2", h / (1 + np.exp(-h)))

    @staticmethod
    def gelu(h: Array) -> Array:
        return 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))

    @staticmethod
    def norm(x: Array) -> Array:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    @staticmethod
    def softmax(s: Array) -> Array:
        e = np.exp(s - s.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def rms(self, name: str, x: Array) -> Array:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * self.w[f"{name}.weight"]

    @staticmethod
    def rope(x: Array) -> Array:
        out = np.empty_like(x)
        for p in range(x.shape[0]):
            for k in range(x.shape[1] // 2):
                a = p * 10000 ** (-2 * k / x.shape[1])
                c, s = math.cos(a), math.sin(a)
                out[p, 2 * k] = x[p, 2 * k] * c - x[p, 2 * k + 1] * s
                out[p, 2 * k + 1] = x[p, 2 * k + 1] * c + x[p, 2 * k] * s
        return out

    def attention(self, name: str, x: Array, temporal: bool) -> Array:
        dim = x.shape[-1] // self.heads
        q, k, v = np.split(self.linear(f"{name}.qkv", x), 3, axis=-1)
        heads = []
        for h in range(self.heads):
            cut = slice(h * dim, h * dim + dim)
            qh, kh = self.rms(f"{name}.q_norm", q[:, cut]), self.rms(f"{name}.k_norm", k[:, cut])
            if temporal:
                qh, kh = self.rope(qh), self.rope(kh)
            heads.append(self.softmax(qh @ kh.T / math.sqrt(dim)) @ v[:, cut])
        return self.linear(f"{name}.proj", np.concatenate(heads, -1))

    def cross(self, name: str, x: Array, y: Array) -> Array:
        dim = x.shape[-1] // self.heads
        q = self.linear(f"{name}.q_linear", x)
        k, v = np.split(self.linear(f"{name}.kv_linear", y), 2, axis=-1)
        cuts = [slice(h * dim, h * dim + dim) for h in range(self.heads)]
        heads = [self.softmax(q[:, c] @ k[:, c].T / math.sqrt(dim)) @ v[:, c] for c in cuts]
        return self.linear(f"{name}.proj", np.concatenate(heads, -1))

    def mixed(self, name: str, x: Array, temporal: bool) -> Array:
        """Self-attention over frames at each place, or over places in each frame; x [T, S, C]."""
        if temporal:
            return np.stack([self.attention(name, x[:, s], True) for s in range(x.shape[1])], axis=1)
        return np.stack([self.attention(name, frame, False) for frame in x])

    def mlp(self, name: str, x: Array) -> Array:
        return self.linear(f"{name}.fc2", self.gelu(self.linear(f"{name}.fc1", x)))

    def block(self, name: str, x: Array, y: Array, t0: Array, temporal: bool) -> Array:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.w[f"{name}.scale_shift_table"] + t0.reshape(6, -1)
        x = x + gate1 * self.mixed(f"{name}.attn", self.norm(x) * (1 + scale1) + shift1, temporal)
        flat = x.reshape(-1, x.shape[-1])
        x = x + self.cross(f"{name}.cross_attn", flat, y).reshape(x.shape)
        return x + gate2 * self.mlp(f"{name}.mlp", self.norm(x) * (1 + scale2) + shift2)

    def positions(self, h: int, w: int, pixels: float) -> Array:
        scale, base, quarter = pixels / CONFIG.input_sq_size, round(math.sqrt(h * w)), CONFIG.hidden // 4
        omega = 10000.0 ** (-np.arange(quarter) / quarter)
        rows = []
        for y in range(h):
            for x in range(w):
                a, b = x / scale * base / w * omega, y / scale * base / h * omega
                rows.append(np.concatenate([np.sin(a), np.cos(a), np.sin(b), np.cos(b)]))
        return np.stack(rows)

    def patches(self, z: Array) -> Array:
        """[C, T, H, W] -> [T, S, hidden], without positions."""
        _, frames, rows, columns = z.shape
        h, w = rows // 2, columns // 2
        kernel = self.w["x_embedder.proj.weight"].reshape(CONFIG.hidden, -1)
        x = np.empty((frames, h * w, CONFIG.hidden))
        for f, i, j in np.ndindex(frames, h, w):
            patch = z[:, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1)
            x[f, i * w + j] = kernel @ patch + self.w["x_embedder.proj.bias"]
        return x

    def t_emb(self, t: float, fps: float) -> Array:
        return self.scalar("t_embedder", t) + self.scalar("fps_embedder", fps)

    def t0(self, emb: Array) -> Array:
        return self.linear("t_block.1", emb / (1 + np.exp(-emb)))

    def final(self, x: Array, emb: Array) -> Array:
        """[T, S, hidden] -> [T, S, values of a patch]."""
        shift, scale = self.w["final_layer.scale_shift_table"] + emb
        return self.linear("final_layer.linear", self.norm(x) * (1 + scale) + shift)

    @staticmethod
    def unpatchify(flat: Array, rows: int, columns: int) -> Array:
        out = np.empty((flat.shape[-1] // 4, len(flat), rows, columns))
        for f, i, j in np.ndindex(len(flat), rows // 2, columns // 2):
            patch = flat[f, i * (columns // 2) + j].reshape(2, 2, -1)
            out[:, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = patch.transpose(2, 0, 1)
        return out

    def forward(self, z: Array, t: float, y: Array, fps: float, height: float, width: float) -> Array:
        _, _, rows, columns = z.shape
        x = self.patches(z) + self.positions(rows // 2, columns // 2, math.sqrt(height * width))
        emb = self.t_emb(t, fps)
        y = self.mlp("y_embedder.y_proj", y)
        for k in range(CONFIG.depth):
            x = self.block(f"spatial_blocks.{k}", x, y, self.t0(emb), False)
            x = self.block(f"temporal_blocks.{k}", x, y, self.t0(emb), True)
        return self.unpatchify(self.final(x, emb), rows, columns)
