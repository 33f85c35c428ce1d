"""Every kind of block of both models, alone, against its formula in float64 numpy (reference/stdit.md)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from support import stdit3_by_hand, stdit_by_hand
from torch import Tensor

from tvm_flow.model import STDiT, STDiT3
from tvm_flow.model.tokens import across_frames, within_frames

Array = np.ndarray
ATOL = 1e-5
FRAMES, ROWS, COLUMNS = 3, 2, 2
PLACES, HIDDEN, TOKENS = ROWS * COLUMNS, 24, 5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(seed: int = 1) -> tuple[Tensor, Array]:
    """x [1, T * S, C], and the same as float64 [T, S, C]."""
    x = normal(1, FRAMES * PLACES, HIDDEN, seed=seed)
    return x, x.double().numpy().reshape(FRAMES, PLACES, HIDDEN)


def close(got: Tensor, want: Array) -> None:
    """Equal to 1e-5, and not because both are nothing."""
    assert np.abs(want).max() > 0.05
    np.testing.assert_allclose(got.numpy().reshape(want.shape), want, atol=ATOL, rtol=0)


class TestSTDiT3:
    model: STDiT3 = stdit3_by_hand.make_model()
    hand = stdit3_by_hand.ByHand(model)

    @pytest.mark.parametrize("temporal", [False, True])
    @pytest.mark.parametrize("index", [0, 1])
    def test_self_attention(self, temporal: bool, index: int) -> None:
        """q and k normalised; rope across frames, none within them."""
        name = f"{'temporal' if temporal else 'spatial'}_blocks.{index}.attn"
        attention, (x, wide) = self.model.get_submodule(name), tokens()
        rope = partial(attention, rope=self.model.rope.tables(FRAMES))
        got = across_frames(rope, x, FRAMES) if temporal else within_frames(attention, x, FRAMES)
        close(got, self.hand.mixed(name, wide, temporal))

    @pytest.mark.parametrize("kind", ["spatial", "temporal"])
    @pytest.mark.parametrize("length", [1, TOKENS])
    def test_block(self, kind: str, length: int) -> None:
        (x, wide), y, t0 = tokens(), normal(1, TOKENS, HIDDEN, seed=2), 0.5 * normal(1, 6 * HIDDEN, seed=3)
        bias = self.model.caption_bias(torch.arange(TOKENS)[None] < length)
        name = f"{kind}_blocks.1"
        got = self.model.get_submodule(name)(x, y, bias, t0, FRAMES, self.model.rope.tables(FRAMES))
        caption = y[0, :length].double().numpy()
        close(got, self.hand.block(name, wide, caption, t0[0].double().numpy(), kind == "temporal"))

    @pytest.mark.parametrize("kind", ["spatial", "temporal"])
    def test_cross_attention_and_mlp(self, kind: str) -> None:
        name, (x, wide), y = f"{kind}_blocks.0", tokens(), normal(1, TOKENS, HIDDEN, seed=2)
        block, flat = self.model.get_submodule(name), wide.reshape(-1, HIDDEN)
        want = self.hand.cross(f"{name}.cross_attn", flat, y[0].double().numpy())
        close(block.cross_attn(x, y, torch.zeros(1, 1, 1, TOKENS)), want)
        close(block.mlp(x), self.hand.mlp(f"{name}.mlp", flat))

    def test_embedders(self) -> None:
        z, y = normal(1, 3, FRAMES, 2 * ROWS, 2 * COLUMNS), normal(1, TOKENS, 10, seed=4)
        patches = self.model.x_embedder(z).flatten(3).permute(0, 2, 3, 1)
        close(patches, self.hand.patches(z[0].double().numpy()))
        close(self.model.position_embedding(2, 3, 32.0, 48.0), self.hand.positions(2, 3, (32.0 * 48.0) ** 0.5))
        close(self.model.y_embedder(y), self.hand.mlp("y_embedder.y_proj", y[0].double().numpy()))
        emb = self.model.t_emb(torch.tensor([130.5]), 8.0)
        close(emb, self.hand.t_emb(130.5, 8.0))
        close(self.model.t0(emb), self.hand.t0(self.hand.t_emb(130.5, 8.0)))

    def test_final_layer(self) -> None:
        (x, wide), emb = tokens(), normal(1, HIDDEN, seed=5)
        out = self.model.final_layer(x, emb)
        want = self.hand.final(wide, emb[0].double().numpy())
        close(out, want)
        size = torch.Size((FRAMES, 2 * ROWS, 2 * COLUMNS))
        videos = self.model.unpatchify(out, (FRAMES, ROWS, COLUMNS), size)
        close(videos, self.hand.unpatchify(want, 2 * ROWS, 2 * COLUMNS))


class TestSTDiT:
    model: STDiT = stdit_by_hand.make_model()
    hand = stdit_by_hand.ByHand(model)

    @pytest.mark.parametrize("index", [0, 1])
    def test_spatial_and_temporal_attention(self, index: int) -> None:
        """Neither norm nor rope."""
        block, name, (x, wide) = self.model.blocks[index], f"blocks.{index}", tokens()
        close(within_frames(block.attn, x, FRAMES), self.hand.spatial(f"{name}.attn", wide))
        close(across_frames(block.attn_temp, x, FRAMES), self.hand.temporal(f"{name}.attn_temp", wide))

    def test_what_temporal_attention_of_block_0_reads(self) -> None:
        x, wide = tokens()
        read = x.unflatten(1, (FRAMES, PLACES)) + self.model.time_embedding(FRAMES)[:, None]
        close(read, self.hand.with_times(wide))

    @pytest.mark.parametrize("index", [0, 1])
    @pytest.mark.parametrize("length", [1, TOKENS])
    def test_block(self, index: int, length: int) -> None:
        (x, wide), y, t0 = tokens(), normal(1, TOKENS, HIDDEN, seed=2), 0.5 * normal(1, 6 * HIDDEN, seed=3)
        bias = self.model.caption_bias(torch.arange(TOKENS)[None] < length)
        times = self.model.time_embedding(FRAMES) if index == 0 else None
        got = self.model.blocks[index](x, y, bias, t0, FRAMES, times)
        caption = y[0, :length].double().numpy()
        close(got, self.hand.block(index, wide, caption, t0[0].double().numpy()))

    def test_final_layer(self) -> None:
        (x, wide), emb = tokens(), normal(1, HIDDEN, seed=5)
        close(self.model.final_layer(x, emb), self.hand.final(wide, emb[0].double().numpy()))
