"""The whole forward against an independent float64 statement, and the invariants that the flow builds on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.stdit3_by_hand import CONFIG, ByHand, make_model
from torch import nn

from tvm_flow.model import STDIT3_XL_2, STDiT3, Video


@pytest.fixture(scope="module")
def model() -> STDiT3:
    return make_model()


def inputs(height: int = 4, width: int = 6, frames: int = 3) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])
    z = torch.randn(2, 3, frames, height, width, generator=g)
    return z, torch.tensor([970.0, 130.5]), torch.randn(2, 5, 10, generator=g), mask


def test_forward_is_the_reference(model: STDiT3) -> None:
    z, t, y, mask = inputs()
    got = model(z, t, y, mask, Video(8.0, 32.0, 48.0)).numpy()
    hand = ByHand(model)
    for n, length in enumerate((3, 5)):
        arrays = z[n].double().numpy(), float(t[n]), y[n, :length].double().numpy()
        want = hand.forward(*arrays, 8.0, 32.0, 48.0)
        assert np.abs(want).max() > 0.5
        np.testing.assert_allclose(got[n], want, atol=1e-5)


def test_masked_tokens_have_no_influence(model: STDiT3) -> None:
    z, t, y, mask = inputs()
    other = torch.where(mask[..., None], y, torch.full_like(y, 123.0))
    assert torch.equal(model(z, t, y, mask, Video(8.0, 32, 32)), model(z, t, other, mask, Video(8.0, 32, 32)))
    assert not torch.equal(model(z, t, y, mask, Video(8.0, 32, 32)), model(z, t, y + 1, mask, Video(8.0, 32, 32)))


def test_odd_latents_are_padded_and_cut(model: STDiT3) -> None:
    z, t, y, mask = inputs(height=3, width=5)
    out = model(z, t, y, mask, Video(8.0, 24, 40))
    assert out.shape == (2, 6, 3, 3, 5)
    padded = nn.functional.pad(z, (0, 1, 0, 1))
    torch.testing.assert_close(out, model(padded, t, y, mask, Video(8.0, 24, 40))[..., :3, :5])


def test_samples_of_a_batch_are_independent(model: STDiT3) -> None:
    z, t, y, mask = inputs()
    both = model(z, t, y, mask, Video(torch.tensor([8.0, 24.0]), 32, 32))
    for n, fps in enumerate((8.0, 24.0)):
        one = model(z[n : n + 1], t[n : n + 1], y[n : n + 1], mask[n : n + 1], Video(fps, 32, 32))
        torch.testing.assert_close(both[n : n + 1], one, atol=1e-5, rtol=1e-4)


def test_time_enters_through_t_emb_and_t0_only(model: STDiT3, monkeypatch: pytest.MonkeyPatch) -> None:
    z, t, y, mask = inputs()
    want = model(z, t, y, mask, Video(8.0, 32, 32))
    emb = model.t_emb(t, 8.0)
    t0 = model.t0(emb)
    monkeypatch.setattr(model, "t_emb", lambda *_: emb)
    monkeypatch.setattr(model, "t0", lambda *_: t0)
    assert torch.equal(model(z, torch.zeros(2), y, mask, Video(99.0, 32, 32)), want)


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
    model(z, t, y, mask, Video(8.0, 32, 32))
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
