"""STDiT's blocks and whole forward against float64 loops, its quirks one by one, and its keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.stdit_by_hand import CONFIG, ByHand, gelu, make_model, normal, sin_cos
from torch import Tensor, nn

from tvm_flow.errors import ConfigError
from tvm_flow.model import STDIT_XL_2, STDIT_XL_2_256, STDiT, STDiTConfig

ATOL = 1e-5
LENGTHS = (3, 5)


@pytest.fixture(scope="module")
def model() -> STDiT:
    return make_model()


def inputs(height: int = 4, width: int = 6, frames: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    return normal(2, 3, frames, height, width), torch.tensor([970.0, 13.0]), normal(2, 5, 10, seed=2), mask


def block_inputs(frames: int = 3, places: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """x [2, T*S, 24], caption [2, 5, 24], t0 [2, 144]."""
    return normal(2, frames * places, 24), normal(2, 5, 24, seed=2), 0.5 * normal(2, 144, seed=3)


@pytest.mark.parametrize("index", [0, 1])
def test_each_block_is_the_formula(model: STDiT, index: int) -> None:
    x, y, t0 = block_inputs()
    bias = model.caption_bias(torch.arange(5) < torch.tensor(LENGTHS)[:, None])
    times = model.time_embedding(3) if index == 0 else None
    got = model.blocks[index](x, y, bias, t0, 3, times).numpy()
    hand = ByHand(model)
    for n, length in enumerate(LENGTHS):
        arrays = x[n].double().numpy().reshape(3, 4, 24), y[n, :length].double().numpy(), t0[n].double().numpy()
        np.testing.assert_allclose(got[n], hand.block(index, *arrays).reshape(12, 24), atol=ATOL)


def test_forward_is_the_reference(model: STDiT) -> None:
    z, t, y, mask = inputs()
    got = model(z, t, y, mask)
    assert got.shape == (2, 6, 3, 4, 6)
    assert got.dtype == torch.float32
    hand = ByHand(model)
    for n, length in enumerate(LENGTHS):
        want = hand.forward(z[n].double().numpy(), float(t[n]), y[n, :length].double().numpy())
        assert np.abs(want).max() > 0.5
        np.testing.assert_allclose(got[n].numpy(), want, atol=ATOL)


def test_parts_before_the_blocks(model: STDiT) -> None:
    z, t, y, _ = inputs()
    hand = ByHand(model)
    emb = model.t_emb(t)
    np.testing.assert_allclose(emb[1].numpy(), hand.t_emb(13.0), atol=ATOL)
    np.testing.assert_allclose(model.t0(emb)[1].numpy(), hand.t0(hand.t_emb(13.0)), atol=ATOL)
    np.testing.assert_allclose(model.y_embedder(y)[0].numpy(), hand.caption(y[0].double().numpy()), atol=ATOL)
    patches = model.x_embedder(z).flatten(3).permute(0, 2, 3, 1) + model.position_embedding(2, 3)
    np.testing.assert_allclose(patches[0].numpy(), hand.patches(z[0].double().numpy()), atol=ATOL)


def test_cross_attention_and_mlp_alone(model: STDiT) -> None:
    x, y, _ = block_inputs()
    block, hand = model.blocks[1], ByHand(model)
    got = block.cross_attn(x, y, torch.zeros(2, 1, 1, 5))
    wide = x[0].double().numpy()
    np.testing.assert_allclose(
        got[0].numpy(), hand.cross("blocks.1.cross_attn", wide, y[0].double().numpy()), atol=ATOL
    )
    want = hand.linear("blocks.1.mlp.fc2", gelu(hand.linear("blocks.1.mlp.fc1", wide)))
    np.testing.assert_allclose(block.mlp(x)[0].numpy(), want, atol=ATOL)
    for name in ("attn", "attn_temp"):
        np.testing.assert_allclose(
            getattr(block, name)(x)[0].numpy(), hand.attention(f"blocks.1.{name}", wide), atol=ATOL
        )


def seen_by(module: nn.Module, model: STDiT, run: tuple[Tensor, ...]) -> list[Tensor]:
    """What ``module`` was given while ``model`` ran."""
    got: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _m, args: got.append(args[0]))
    model(*run)
    handle.remove()
    return got


class TestQuirks:
    def test_temporal_and_cross_attention_read_the_raw_residual(self) -> None:
        """With spatial attention closed, block 1's temporal attention reads what block 0 left, untouched."""
        model = make_model()
        block = model.blocks[1]
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
        block.attn_temp.proj.weight.zero_()
        block.attn_temp.proj.bias.zero_()
        left: list[Tensor] = []
        model.blocks[0].register_forward_hook(lambda _m, _a, out: left.append(out))
        run = inputs()
        (temporal,) = seen_by(block.attn_temp.qkv, model, run)
        (cross,) = seen_by(block.cross_attn.q_linear, model, run)
        assert torch.equal(cross, left[0])
        assert torch.equal(temporal, left[0].unflatten(1, (3, 6)).transpose(1, 2).flatten(0, 1))

    def test_frame_numbers_enter_block_0_only_and_not_the_residual(self) -> None:
        model = make_model()
        for block in model.blocks:
            for linear in (block.attn.proj, block.attn_temp.proj):
                linear.weight.zero_()
                linear.bias.zero_()
        run = inputs()
        (read,) = seen_by(model.blocks[0].attn_temp.qkv, model, run)
        (cross,) = seen_by(model.blocks[0].cross_attn.q_linear, model, run)
        residual = cross.unflatten(1, (3, 6)).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(read - residual, model.time_embedding(3).expand(12, 3, 24), atol=1e-5, rtol=0)
        (later,) = seen_by(model.blocks[1].attn_temp.qkv, model, run)
        (cross,) = seen_by(model.blocks[1].cross_attn.q_linear, model, run)
        assert torch.equal(later, cross.unflatten(1, (3, 6)).transpose(1, 2).flatten(0, 1))

    def test_gate_msa_closes_both_attentions(self, model: STDiT) -> None:
        x, y, t0 = block_inputs()
        block, bias = model.blocks[1], torch.zeros(2, 1, 1, 5)
        closed = t0.unflatten(1, (6, 24)).clone()
        closed[:, 2] = -block.scale_shift_table[2]
        closed[:, 5] = -block.scale_shift_table[5]
        got = block(x, y, bias, closed.flatten(1), 3)
        torch.testing.assert_close(got, x + block.cross_attn(x, y, bias))

    def test_the_final_layer_is_fed_by_t_emb(self, model: STDiT, monkeypatch: pytest.MonkeyPatch) -> None:
        z, t, y, mask = inputs()
        want, emb = model(z, t, y, mask), model.t_emb(t)
        t0 = model.t0(emb)
        monkeypatch.setattr(model, "t0", lambda _: t0)
        assert torch.equal(model(z, t, y, mask), want)
        monkeypatch.setattr(model, "t_emb", lambda _: emb + 1)
        assert not torch.allclose(model(z, t, y, mask), want)

    def test_position_tables(self) -> None:
        space, time = STDiT(CONFIG).position_embedding(2, 3), STDiT(CONFIG).time_embedding(4)
        assert space.dtype == time.dtype == torch.float32
        for row, (i, j) in enumerate(np.ndindex(2, 3)):
            want = np.concatenate([sin_cos(j / 0.5, 12), sin_cos(i / 0.5, 12)])
            np.testing.assert_allclose(space[row].numpy(), want, atol=1e-6)
        for t in range(4):
            np.testing.assert_allclose(time[t].numpy(), sin_cos(t / 2, 24), atol=1e-6)
        assert float(time[2, 0]) == pytest.approx(math.sin(1.0))


def test_masked_tokens_have_no_influence(model: STDiT) -> None:
    z, t, y, mask = inputs()
    other = torch.where(mask[..., None], y, torch.full_like(y, 123.0))
    assert torch.equal(model(z, t, y, mask), model(z, t, other, mask))
    assert not torch.equal(model(z, t, y, mask), model(z, t, y + 1, mask))


def test_a_masked_caption_is_a_shorter_caption(model: STDiT) -> None:
    z, t, y, mask = inputs()
    short = model(z[:1], t[:1], y[:1, :3], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(model(z, t, y, mask)[:1], short, atol=1e-5, rtol=0)


def test_odd_latents_are_padded_and_cut(model: STDiT) -> None:
    z, t, y, mask = inputs(height=3, width=5)
    out = model(z, t, y, mask)
    assert out.shape == (2, 6, 3, 3, 5)
    torch.testing.assert_close(out, model(nn.functional.pad(z, (0, 1, 0, 1)), t, y, mask)[..., :3, :5])


def test_hooks_see_every_quantized_linear_once(model: STDiT) -> None:
    names = {"qkv", "proj", "q_linear", "kv_linear", "fc1", "fc2"}
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[-1] in names and name.startswith("blocks.")
    }
    assert len(linears) == CONFIG.depth * 9
    assert all(len(seen_by(module, model, inputs())) == 1 for module in linears.values())


def test_null_caption(model: STDiT) -> None:
    assert torch.equal(model.null_caption(3)[2], model.y_embedder.y_embedding)


def xl_2_shapes() -> dict[str, tuple[int, ...]]:
    """The released checkpoint at 512 px, from reference/stdit.md."""
    h = 1152
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 1024, h),
        "pos_embed_temporal": (1, 16, h),
        "x_embedder.proj.weight": (h, 4, 1, 2, 2),
        "x_embedder.proj.bias": (h,),
        "y_embedder.y_embedding": (120, 4096),
        "final_layer.scale_shift_table": (2, h),
    }
    linears = {
        "t_embedder.mlp.0": (h, 256),
        "t_embedder.mlp.2": (h, h),
        "t_block.1": (6912, h),
        "y_embedder.y_proj.fc1": (h, 4096),
        "y_embedder.y_proj.fc2": (h, h),
        "final_layer.linear": (32, h),
    }
    for block in (f"blocks.{i}" for i in range(28)):
        shapes[f"{block}.scale_shift_table"] = (6, h)
        for name in ("attn", "attn_temp"):
            linears |= {f"{block}.{name}.qkv": (3456, h), f"{block}.{name}.proj": (h, h)}
        linears |= {f"{block}.cross_attn.{name}": (h, h) for name in ("q_linear", "proj")}
        linears[f"{block}.cross_attn.kv_linear"] = (2304, h)
        linears |= {f"{block}.mlp.fc1": (4608, h), f"{block}.mlp.fc2": (h, 4608)}
    for name, (rows, columns) in linears.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    return shapes


def test_xl_2_has_the_released_keys_and_shapes() -> None:
    with torch.device("meta"):
        model = STDiT(STDIT_XL_2)
    have = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    released = xl_2_shapes()
    assert len(released) == 550
    assert {"pos_embed": (1, 1024, 1152), "pos_embed_temporal": (1, 16, 1152), **have} == released
    # The null caption and the position tables are buffers and not counted.
    assert sum(p.numel() for p in model.parameters()) == 759_620_768
    linears = (m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.startswith("blocks."))
    assert sum(m.weight.numel() for m in linears) == 743_178_240


class TestConfig:
    def test_presets(self) -> None:
        assert (STDIT_XL_2.head_dim, STDIT_XL_2.mlp_hidden, STDIT_XL_2.out_channels) == (72, 4608, 8)
        assert (STDIT_XL_2.model_max_length, STDIT_XL_2.space_scale, STDIT_XL_2_256.space_scale) == (120, 1.0, 0.5)

    @pytest.mark.parametrize("config", [CONFIG, STDIT_XL_2, STDIT_XL_2_256])
    def test_dict_round_trip(self, config: STDiTConfig) -> None:
        assert STDiTConfig.from_dict(config.to_dict()) == config
        assert config.to_dict()["model_type"] == "STDiT"

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"space_scale": 0.0}, "space_scale"),
            ({"time_scale": -1.0}, "time_scale"),
            ({"num_heads": 5}, "heads"),
            ({"hidden_size": 6}, "hidden"),
            ({"patch_size": 3}, "patch_size: expected three positive sizes, got 3"),
            ({"space_scale": "wide"}, "space_scale: expected a number above 0, at most 1e[+]06, got 'wide'"),
            ({"time_scale": float("inf")}, "time_scale"),
            ({"pred_sigma": False}, "pred_sigma"),
            ({"no_temporal_pos_emb": True}, "no_temporal_pos_emb"),
            ({"model_type": "STDiT3"}, "model_type"),
        ],
    )
    def test_what_is_refused(self, change: dict[str, object], named: str) -> None:
        with pytest.raises(ConfigError, match=named):
            STDiTConfig.from_dict({**CONFIG.to_dict(), **change})
