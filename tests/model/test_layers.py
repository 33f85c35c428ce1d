"""Blocks' parts against their formulas in float64 numpy."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from tvm_flow.model.layers import (
    CaptionEmbedder,
    CrossAttention,
    Mlp,
    RMSNorm,
    ScalarEmbedder,
    SelfAttention,
    attend,
    modulate,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rms_norm() -> None:
    norm = RMSNorm(12)
    norm.weight.data = normal(12, seed=1)
    x = normal(3, 5, 12) * 1e-3  # small, so that eps counts
    wide = x.double().numpy()
    want = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * norm.weight.detach().double().numpy()
    np.testing.assert_allclose(norm(x).detach().numpy(), want, rtol=1e-5, atol=1e-7)


def test_modulate_has_no_affine_parameters() -> None:
    x, shift, scale = normal(2, 7, 16), normal(2, 1, 16, seed=1), normal(2, 1, 16, seed=2)
    wide = x.double().numpy()
    centred = wide - wide.mean(-1, keepdims=True)
    want = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6) * (1 + scale.numpy()) + shift.numpy()
    np.testing.assert_allclose(modulate(x, shift, scale).numpy(), want, atol=1e-5)


def test_attend_is_softmax_of_scaled_products() -> None:
    q, k, v = normal(2, 3, 4, 8), normal(2, 3, 6, 8, seed=1), normal(2, 3, 6, 8, seed=2)
    bias = normal(2, 1, 1, 6, seed=3)
    got = attend(q, k, v, bias).numpy()
    assert got.shape == (2, 4, 24)
    for n in range(2):
        for head in range(3):
            scores = q[n, head].double().numpy() @ k[n, head].double().numpy().T / math.sqrt(8) + bias[n, 0].numpy()
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            want = weights @ v[n, head].double().numpy()
            np.testing.assert_allclose(got[n, :, head * 8 : head * 8 + 8], want, atol=1e-5)


def test_attend_takes_its_softmax_in_fp32() -> None:
    q, k, v = (normal(1, 1, 64, 8, seed=s).bfloat16() for s in range(3))
    seen: list[torch.dtype] = []
    original = torch.Tensor.softmax

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is original:
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Spy():
        out = attend(q, k, v)
    assert seen == [torch.float32]
    assert out.dtype == torch.bfloat16


def test_self_attention_splits_qkv_before_heads() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(24, 3).double()
    x = normal(2, 5, 24).double()
    weight, bias = attention.qkv.weight, attention.qkv.bias
    parts = [x @ weight[i * 24 : i * 24 + 24].T + bias[i * 24 : i * 24 + 24] for i in range(3)]
    q, k, v = (part.unflatten(-1, (3, 8)).transpose(1, 2) for part in parts)
    want = attention.proj(attend(attention.q_norm(q), attention.k_norm(k), v))
    torch.testing.assert_close(attention(x), want)


def test_rope_moves_q_and_k_but_not_v() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(16, 2)
    x = normal(1, 4, 16)
    flat = (torch.ones(4, 8), torch.zeros(4, 8))
    torch.testing.assert_close(attention(x, flat), attention(x))
    # One token attends to itself alone, whatever the angle.
    angles = torch.full((1, 8), 0.7)
    torch.testing.assert_close(attention(x[:, :1], (angles.cos(), angles.sin())), attention(x[:, :1]))


def test_cross_attention_ignores_masked_tokens_exactly() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(16, 2)
    x, y = normal(2, 6, 16), normal(2, 5, 16, seed=1)
    bias = torch.zeros(2, 1, 1, 5)
    bias[:, :, :, 3:] = float("-inf")
    other = y.clone()
    other[:, 3:] = 1e4 * normal(2, 2, 16, seed=2)
    assert torch.equal(attention(x, y, bias), attention(x, other, bias))
    torch.testing.assert_close(attention(x, y, bias), attention(x, y[:, :3], bias[..., :3]))


def test_mlp_uses_the_tanh_gelu() -> None:
    torch.manual_seed(0)
    mlp = Mlp(8, 12, 4)
    x = normal(3, 8)
    h = mlp.fc1(x).detach().double().numpy()
    gelu = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    want = gelu @ mlp.fc2.weight.detach().double().numpy().T + mlp.fc2.bias.detach().numpy()
    np.testing.assert_allclose(mlp(x).detach().numpy(), want, atol=1e-5)


def test_scalar_embedder_keys_and_shape() -> None:
    embedder = ScalarEmbedder(32)
    assert {k: tuple(v.shape) for k, v in embedder.state_dict().items()} == {
        "mlp.0.weight": (32, 256),
        "mlp.0.bias": (32,),
        "mlp.2.weight": (32, 32),
        "mlp.2.bias": (32,),
    }
    assert embedder(torch.tensor([0.0, 500.0])).shape == (2, 32)


def test_null_caption_is_a_buffer() -> None:
    embedder = CaptionEmbedder(10, 8, 4)
    assert embedder.y_embedding.shape == (4, 10)
    assert "y_embedding" in embedder.state_dict()
    assert not isinstance(embedder.y_embedding, nn.Parameter)
