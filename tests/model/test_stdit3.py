"""The whole forward against an independent float64 statement, and the invariants that the flow builds on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tvm_flow.model import STDIT3_XL_2, STDiT3, STDiT3Config

CONFIG = STDiT3Config(
    depth=2, hidden=24, heads=2, in_channels=3, caption_channels=10, model_max_length=5, input_sq_size=32
)
Array = np.ndarray


@pytest.fixture(scope="module")
def model() -> STDiT3:
    torch.manual_seed(0)
    net = STDiT3(CONFIG)
    for norm in (m for m in net.modules() if type(m).__name__ == "RMSNorm"):
        norm.weight.data = 1 + 0.3 * torch.randn_like(norm.weight)
    return net.eval().requires_grad_(False)


def inputs(height: int = 4, width: int = 6, frames: int = 3) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])
    z = torch.randn(2, 3, frames, height, width, generator=g)
    return z, torch.tensor([970.0, 130.5]), torch.randn(2, 5, 10, generator=g), mask


class ByHand:
    """The forward of reference/stdit.md for one sample, in float64 loops over named weights."""

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

    def block(self, name: str, x: Array, y: Array, t0: Array, temporal: bool) -> Array:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.w[f"{name}.scale_shift_table"] + t0.reshape(6, -1)
        m = self.norm(x) * (1 + scale1) + shift1
        out = np.empty_like(m)
        if temporal:
            for s in range(x.shape[1]):
                out[:, s] = self.attention(f"{name}.attn", m[:, s], True)
        else:
            for t in range(x.shape[0]):
                out[t] = self.attention(f"{name}.attn", m[t], False)
        x = x + gate1 * out
        flat = x.reshape(-1, x.shape[-1])
        x = x + self.cross(f"{name}.cross_attn", flat, y).reshape(x.shape)
        m = self.norm(x) * (1 + scale2) + shift2
        return x + gate2 * self.linear(f"{name}.mlp.fc2", self.gelu(self.linear(f"{name}.mlp.fc1", m)))

    def positions(self, h: int, w: int, pixels: float) -> Array:
        scale, base, quarter = pixels / CONFIG.input_sq_size, round(math.sqrt(h * w)), CONFIG.hidden // 4
        omega = 10000.0 ** (-np.arange(quarter) / quarter)
        rows = []
        for y in range(h):
            for x in range(w):
                a, b = x / scale * base / w * omega, y / scale * base / h * omega
                rows.append(np.concatenate([np.sin(a), np.cos(a), np.sin(b), np.cos(b)]))
        return np.stack(rows)

    def forward(self, z: Array, t: float, y: Array, fps: float, height: float, width: float) -> Array:
        _, frames, rows, columns = z.shape
        h, w = rows // 2, columns // 2
        kernel = self.w["x_embedder.proj.weight"].reshape(CONFIG.hidden, -1)
        x = np.empty((frames, h * w, CONFIG.hidden))
        for f in range(frames):
            for i in range(h):
                for j in range(w):
                    patch = z[:, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1)
                    x[f, i * w + j] = kernel @ patch + self.w["x_embedder.proj.bias"]
        x = x + self.positions(h, w, math.sqrt(height * width))
        emb = self.scalar("t_embedder", t) + self.scalar("fps_embedder", fps)
        t0 = self.linear("t_block.1", emb / (1 + np.exp(-emb)))
        y = self.linear("y_embedder.y_proj.fc2", self.gelu(self.linear("y_embedder.y_proj.fc1", y)))
        for k in range(CONFIG.depth):
            x = self.block(f"spatial_blocks.{k}", x, y, t0, False)
            x = self.block(f"temporal_blocks.{k}", x, y, t0, True)
        shift, scale = self.w["final_layer.scale_shift_table"] + emb
        flat = self.linear("final_layer.linear", self.norm(x) * (1 + scale) + shift)
        out = np.empty((2 * CONFIG.in_channels, frames, rows, columns))
        for f in range(frames):
            for i in range(h):
                for j in range(w):
                    patch = flat[f, i * w + j].reshape(2, 2, -1)
                    out[:, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = patch.transpose(2, 0, 1)
        return out


def test_forward_is_the_reference(model: STDiT3) -> None:
    z, t, y, mask = inputs()
    got = model(z, t, y, mask, 8.0, 32.0, 48.0).numpy()
    hand = ByHand(model)
    for n, length in enumerate((3, 5)):
        arrays = z[n].double().numpy(), float(t[n]), y[n, :length].double().numpy()
        want = hand.forward(*arrays, 8.0, 32.0, 48.0)
        assert np.abs(want).max() > 0.5
        np.testing.assert_allclose(got[n], want, atol=2e-5)


def test_masked_tokens_have_no_influence(model: STDiT3) -> None:
    z, t, y, mask = inputs()
    other = torch.where(mask[..., None], y, torch.full_like(y, 123.0))
    assert torch.equal(model(z, t, y, mask, 8.0, 32, 32), model(z, t, other, mask, 8.0, 32, 32))
    assert not torch.equal(model(z, t, y, mask, 8.0, 32, 32), model(z, t, y + 1, mask, 8.0, 32, 32))


def test_odd_latents_are_padded_and_cut(model: STDiT3) -> None:
    z, t, y, mask = inputs(height=3, width=5)
    out = model(z, t, y, mask, 8.0, 24, 40)
    assert out.shape == (2, 6, 3, 3, 5)
    padded = nn.functional.pad(z, (0, 1, 0, 1))
    torch.testing.assert_close(out, model(padded, t, y, mask, 8.0, 24, 40)[..., :3, :5])


def test_samples_of_a_batch_are_independent(model: STDiT3) -> None:
    z, t, y, mask = inputs()
    both = model(z, t, y, mask, torch.tensor([8.0, 24.0]), 32, 32)
    for n, fps in enumerate((8.0, 24.0)):
        one = model(z[n : n + 1], t[n : n + 1], y[n : n + 1], mask[n : n + 1], fps, 32, 32)
        torch.testing.assert_close(both[n : n + 1], one, atol=1e-5, rtol=1e-4)


def test_time_enters_through_t_emb_and_t0_only(model: STDiT3, monkeypatch: pytest.MonkeyPatch) -> None:
    z, t, y, mask = inputs()
    want = model(z, t, y, mask, 8.0, 32, 32)
    emb = model.t_emb(t, 8.0)
    t0 = model.t0(emb)
    monkeypatch.setattr(model, "t_emb", lambda *_: emb)
    monkeypatch.setattr(model, "t0", lambda *_: t0)
    assert torch.equal(model(z, torch.zeros(2), y, mask, 99.0, 32, 32), want)


def test_hooks_see_every_quantized_linear_once(model: STDiT3) -> None:
    names = {"qkv", "proj", "q_linear", "kv_linear", "fc1", "fc2"}
    calls: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.split(".")[-1] in names and "_blocks." in name:
            calls[name] = 0
            hook = lambda _m, _i, name=name: calls.__setitem__(name, calls[name] + 1)  # noqa: E731
            handles.append(module.register_forward_pre_hook(hook))
    z, t, y, mask = inputs()
    model(z, t, y, mask, 8.0, 32, 32)
    for handle in handles:
        handle.remove()
    assert len(calls) == 2 * CONFIG.depth * 7
    assert set(calls.values()) == {1}


def test_null_caption(model: STDiT3) -> None:
    assert torch.equal(model.null_caption(3)[2], model.y_embedder.y_embedding)


def xl_2_shapes() -> dict[str, tuple[int, ...]]:
    """The released checkpoint, from reference/stdit.md."""
    h, out = 1152, 32
    shapes: dict[str, tuple[int, ...]] = {"rope.freqs": (36,), "y_embedder.y_embedding": (300, 4096)}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        shapes[f"{name}.bias"] = (rows,)

    shapes["x_embedder.proj.weight"], shapes["x_embedder.proj.bias"] = (h, 4, 1, 2, 2), (h,)
    for name in ("t_embedder", "fps_embedder"):
        linear(f"{name}.mlp.0", h, 256)
        linear(f"{name}.mlp.2", h, h)
    linear("t_block.1", 6912, h)
    linear("y_embedder.y_proj.fc1", h, 4096)
    linear("y_embedder.y_proj.fc2", h, h)
    shapes["final_layer.scale_shift_table"] = (2, h)
    linear("final_layer.linear", out, h)
    for block in [f"{kind}_blocks.{i}" for kind in ("spatial", "temporal") for i in range(28)]:
        shapes[f"{block}.scale_shift_table"] = (6, h)
        shapes[f"{block}.attn.q_norm.weight"] = shapes[f"{block}.attn.k_norm.weight"] = (72,)
        linear(f"{block}.attn.qkv", 3456, h)
        linear(f"{block}.attn.proj", h, h)
        linear(f"{block}.cross_attn.q_linear", h, h)
        linear(f"{block}.cross_attn.kv_linear", 2304, h)
        linear(f"{block}.cross_attn.proj", h, h)
        linear(f"{block}.mlp.fc1", 4608, h)
        linear(f"{block}.mlp.fc2", h, 4608)
    return shapes


def test_xl_2_has_the_released_keys_and_shapes() -> None:
    with torch.device("meta"):
        model = STDiT3(STDIT3_XL_2)
    have = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert have == xl_2_shapes()
    assert len(have) == 973
    # The null caption is a buffer and not counted.
    assert sum(p.numel() for p in model.parameters()) == 1_207_643_972
