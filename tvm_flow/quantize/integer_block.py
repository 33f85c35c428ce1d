"""A block of STDiT or STDiT3 in integers alone: from residual codes to residual codes, nothing in float.

    int16 [B, M, C] --unit_rows, modulation--> int8 --qkv--> int32 --RESCALE--> q, k (RMS norm, rope), v int8
      --attention--> int32 --RESCALE--> int8 --proj--> int32 --RESCALE--> int16 * gate int16 -> int32 --+
    residual * 256 ---------------------------------------------------------------------------------- + --> int16

and likewise to the caption, without norm and gate, and through the MLP, with GELU as TABLE. Written with
`tvm_flow.numerics.tosa_operators`: on arrays it is the reference, in a graph what a device runs. Vectors that may be
negative (modulation, gates, norm weights, rope) are 16-bit codes and operands of a product, as RESCALE has positive
scales alone. B videos of one step and branch run at once; M = T S tokens, frames outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import numpy as np

from tvm_flow.numerics.integer_rows import MEAN_UNIT, Attended, attention, row_unit, scaling, unit_rows
from tvm_flow.numerics.integer_tables import ONE, UNIT, gelu_table
from tvm_flow.numerics.tosa_operators import Array, IntegerOperators, V
from tvm_flow.quantize.integer_parts import (
    Codes,
    CrossAttention,
    Gated,
    Head,
    IntegerBlock,
    IntegerLinear,
    Modulation,
    SelfAttention,
)

_MORE = 256
"""Parts of the residual's unit in which what is added to it is rounded."""
_TURN = 1 << 14
"""Code of 1 among the codes of cos and sin."""
_MOST = 32767


@dataclass(frozen=True)
class BlockWriter(Generic[V]):
    """Runs or writes ``block`` with ``ops``."""

    ops: IntegerOperators[V]
    block: IntegerBlock

    def run(self, x: V, kv: V, mask: V) -> V:
        """int16 [B, M, C], `caption_codes` int8 [B, L, 2 C], int32 [B heads or 1, 1, L] -> int16 [B, M, C]."""
        for part in self.block.attentions:
            x = self._self_attention(part, x)
        x = self._cross_attention(self.block.cross, x, kv, mask)
        sums = self._linear(self._modulated(x, self.block.mlp_reads), self.block.fc1)
        wide = self._rescale(sums, self.block.fc1.scale / UNIT, "int16")
        active = self.ops.table(wide, self.ops.constant(gelu_table()))
        codes = self._rescale(active, UNIT * 32767 / ONE * self.block.mlp.codes.steps, "int8")
        return self._added(x, codes, self.block.mlp)

    def caption_codes(self, y: V) -> V:
        """k and v of the caption's codes int8 [B, L, C], int8 [B, L, 2 C]; no step enters them."""
        cross = self.block.cross
        channels = len(cross.kv.scale) // 2
        step = np.repeat([cross.k, cross.v], channels)
        return self._rescale(self._linear(y, cross.kv), cross.kv.scale / step, "int8")

    def _self_attention(self, part: SelfAttention, x: V) -> V:
        ops, (batch, tokens, channels) = self.ops, x.shape
        read = x if part.added is None else self._with(x, part.added)
        codes = (
            self._modulated(read, part.reads) if isinstance(part.reads, Modulation) else self._codes(read, part.reads)
        )
        sums = self._linear(codes, part.qkv)
        pieces = [ops.slice(sums, 2, i * channels, (i + 1) * channels) for i in range(3)]
        scales = np.split(part.qkv.scale, 3)
        q, k = (self._head(part, *given) for given in zip(pieces[:2], scales[:2], (part.q, part.k), strict=True))
        v = self._heads(self._rescale(pieces[2], scales[2] / part.v, "int8"), part.temporal)
        scale = part.q.scale * part.k.scale / float(np.sqrt(channels // self.block.heads))
        mixed = attention(ops, Attended(q, ops.transpose(k, (0, 2, 1)), v), scale)
        mixed = self._tokens(mixed, (batch, tokens, channels), part.temporal)
        return self._added(x, self._mean(mixed, part.v, part.proj.codes), part.proj)

    def _cross_attention(self, part: CrossAttention, x: V, kv: V, mask: V) -> V:
        ops, (batch, tokens, channels), length = self.ops, x.shape, kv.shape[1]
        heads, width = self.block.heads, channels // self.block.heads

        def split(codes: V, count: int) -> V:
            """[B, N, C] -> [B heads, N, d]."""
            grid = ops.transpose(ops.reshape(codes, (batch, count, heads, width)), (0, 2, 1, 3))
            return ops.reshape(grid, (batch * heads, count, width))

        sums = self._linear(self._codes(x, part.reads), part.q_linear)
        q = split(self._rescale(sums, part.q_linear.scale / part.q, "int8"), tokens)
        k, v = (split(ops.slice(kv, 2, i * channels, (i + 1) * channels), length) for i in range(2))
        seen = Attended(q, ops.transpose(k, (0, 2, 1)), v, mask)
        mixed = attention(ops, seen, part.q * part.k / float(np.sqrt(width)))
        grid = ops.transpose(ops.reshape(mixed, (batch, heads, tokens, width)), (0, 2, 1, 3))
        return self._added(x, self._mean(ops.reshape(grid, x.shape), part.v, part.proj.codes), part.proj)

    def _head(self, part: SelfAttention, sums: V, scale: Array, head: Head) -> V:
        """Sums [B, M, C] -> codes int8 [G, L, d]."""
        if head.weight is None or part.qkv_reach is None:
            return self._heads(self._rescale(sums, scale / head.scale, "int8"), part.temporal)
        wide = self._rescale(sums, scale * (_MOST / part.qkv_reach), "int16")
        rows = unit_rows(self.ops, self._heads(wide, part.temporal), centered=False)
        width = len(head.weight)
        step = row_unit(width) * self._step(head.weight)
        rows = self.ops.multiply(rows, self._vector(head.weight, 3))
        if part.rope is None:
            return self._rescale(rows, step / head.scale, "int8")
        reach = float(np.sqrt(width) * np.abs(head.weight).max())
        return self._turned(part.rope, self._rescale(rows, step * _MOST / reach, "int16"), reach / _MOST / head.scale)

    def _turned(self, rope: tuple[Array, Array], x: V, scale: float) -> V:
        """int16 [G, T, d] whose pairs are turned; x[2 i] and x[2 i + 1] are a pair."""
        ops, (groups, frames, width) = self.ops, x.shape
        pairs = ops.reshape(x, (groups, frames, width // 2, 2))
        a, b = (ops.slice(pairs, 3, i, i + 1) for i in range(2))
        cos, sin = (
            ops.given(np.rint(table[:, ::2] * _TURN).astype(np.int16).reshape(1, frames, width // 2, 1))
            for table in rope
        )
        first = ops.elementwise("sub", ops.multiply(a, cos), ops.multiply(b, sin))
        second = ops.elementwise("add", ops.multiply(b, cos), ops.multiply(a, sin))
        turned = ops.reshape(ops.concat((first, second), 3), x.shape)
        return self._rescale(turned, scale / _TURN, "int8")

    def _heads(self, x: V, temporal: bool) -> V:
        """[B, T S, C] -> [B T heads, S, d], or [B S heads, T, d]."""
        ops, (batch, tokens, channels) = self.ops, x.shape
        frames, heads = self.block.frames, self.block.heads
        places, width = tokens // frames, channels // heads
        if temporal:
            grid = ops.transpose(ops.reshape(x, (batch, frames, places * heads, width)), (0, 2, 1, 3))
            return ops.reshape(grid, (batch * places * heads, frames, width))
        grid = ops.transpose(ops.reshape(x, (batch * frames, places, heads, width)), (0, 2, 1, 3))
        return ops.reshape(grid, (batch * frames * heads, places, width))

    def _tokens(self, x: V, shape: tuple[int, ...], temporal: bool) -> V:
        """The inverse of `_heads`."""
        ops, (batch, tokens, channels) = self.ops, shape
        frames, heads = self.block.frames, self.block.heads
        places, width = tokens // frames, channels // heads
        split = (batch, places * heads, frames, width) if temporal else (batch * frames, heads, places, width)
        return ops.reshape(ops.transpose(ops.reshape(x, split), (0, 2, 1, 3)), shape)

    def _modulated(self, x: V, how: Modulation) -> V:
        """int8: codes of the modulated LayerNorm of int16 [B, M, C]."""
        ops, steps = self.ops, how.codes.steps
        scale = how.scale * steps
        step = self._step(scale) * row_unit(x.shape[2])
        rows = ops.multiply(unit_rows(ops, x, centered=True), self._vector(scale, 3))
        shift = ops.given(np.rint(how.shift * steps / step).astype(np.int32).reshape(1, 1, -1))
        return self._rescale(ops.elementwise("add", rows, shift), step, "int8")

    def _codes(self, x: V, codes: Codes) -> V:
        return self._rescale(x, self.block.unit * codes.steps, "int8")

    def _mean(self, mixed: V, scale: float, codes: Codes) -> V:
        """Codes of attention's result [B, M, C], int32."""
        return self._rescale(mixed, MEAN_UNIT * scale * codes.steps, "int8")

    def _linear(self, x: V, linear: IntegerLinear) -> V:
        """int8 [B, M, K] -> int32 [B, M, N]."""
        ops, (batch, tokens, depth) = self.ops, x.shape
        weight = ops.given(linear.weight[:, None, None])
        sums = ops.conv1x1(ops.reshape(x, (1, batch, tokens, depth)), weight, ops.given(linear.biases))
        return ops.reshape(sums, (batch, tokens, len(linear.scale)))

    def _added(self, x: V, codes: V, end: Gated) -> V:
        """x + gate * linear(codes), int16."""
        ops, unit = self.ops, self.block.unit / _MORE
        sums = self._linear(codes, end.linear)
        if end.gate is None:
            wide = self._rescale(sums, end.linear.scale / unit, "int32")
        else:
            narrow = self._rescale(sums, end.linear.scale * (_MOST / end.reach), "int16")
            product = ops.multiply(narrow, self._vector(end.gate, 3))
            wide = self._rescale(product, self._step(end.gate) * end.reach / _MOST / unit, "int32")
        more = ops.multiply(ops.cast(x, "int32"), ops.constant(np.full((1, 1, 1), _MORE, np.int32)))
        return self._rescale(ops.elementwise("add", more, wide), 1 / _MORE, "int16")

    def _with(self, x: V, added: Array) -> V:
        """x [B, T S, C] plus a vector of each frame, int16."""
        ops, (batch, tokens, channels), frames = self.ops, x.shape, len(added)
        codes = ops.given(np.rint(added / self.block.unit).astype(np.int32).reshape(1, frames, 1, channels))
        grid = ops.reshape(ops.cast(x, "int32"), (batch, frames, tokens // frames, channels))
        return self._rescale(ops.reshape(ops.elementwise("add", grid, codes), x.shape), 1.0, "int16")

    def _rescale(self, x: V, scale: float | Array, dtype: str) -> V:
        return self.ops.rescale(x, scaling(self.ops, scale), dtype)

    def _step(self, vector: Array) -> float:
        """Of the 16-bit codes of ``vector``."""
        return max(float(np.abs(vector).max()), 1e-12) / _MOST

    def _vector(self, vector: Array, rank: int) -> V:
        codes = np.rint(vector / self._step(vector)).astype(np.int16)
        return self.ops.given(codes.reshape((1,) * (rank - 1) + (-1,)))
