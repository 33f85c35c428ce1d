"""Blocks in integers from simulated linears and the reach of what lies between them, and running a model by them.

The tensors that are float elsewhere get static scales per step and branch: q, k and v 8 bits over their reach, what is
normalised or gated next and the residual 16 bits over `ROOM` times theirs, since 16 bits have room for what other
prompts reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tvm_flow.calibrate import block_names
from tvm_flow.calibrate.reach import RESIDUAL, Reach
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyModel, STDiT3Block, STDiTBlock
from tvm_flow.numerics.integer_rows import MASKED
from tvm_flow.numerics.integer_tables import UNIT
from tvm_flow.numerics.tosa_operators import Array, NumpyOperators
from tvm_flow.quantize.integer_block import BlockWriter
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
from tvm_flow.quantize.simulated import AnyLayer, Clock, SimulatedLayer, StaticCodes

ROOM = 1.5
_MOST8, _MOST16 = 127, 32767
_ONE_IS_ADDED = torch.tensor([0, 1, 0, 0, 1, 0], dtype=torch.float32)[:, None]
"""To the scales among a block's vectors, before what depends on time: as `tvm_flow.quantize.fold` adds them up."""


@dataclass(frozen=True, eq=False)
class IntegerModel:
    """What all blocks are made of: simulated linears by layer name, and `Reach`."""

    layers: Mapping[str, AnyLayer]
    reach: Reach

    def __post_init__(self) -> None:
        for name in self.layers:
            self.layer(name)

    def layer(self, name: str) -> SimulatedLayer:
        """Raises QuantizeError for a layer that is not static and symmetric at all steps."""
        layer = self.layers.get(name)
        if (
            not isinstance(layer, SimulatedLayer)
            or not isinstance(layer.codes, StaticCodes)
            or layer.float_steps
            or layer.center is not None
            or bool(layer.codes.zero.any())
        ):
            raise QuantizeError(
                f"{name}: expected a static, symmetric layer without center that no step keeps in float, as blocks in "
                "integers have; change the recipe"
            )
        return layer


@dataclass(frozen=True, eq=False)
class BlockMaker:
    """The block ``name`` of ``model`` at one step and branch."""

    model: IntegerModel
    name: str
    step: int
    branch: int

    def block(self, vectors: Array, given: Given) -> IntegerBlock:
        """``vectors`` float32 [6, C]: shift, scale, gate of attention, then of the MLP; LN(x) * scale + shift."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = vectors
        reads = Modulation(scale, shift, self.codes("attn.qkv"))
        if given.norms is not None:
            attentions: tuple[SelfAttention, ...] = (self.normed(given, given.norms, reads, gate),)
        else:
            temporal = self.plain("attn_temp", (self.codes("attn_temp.qkv"), gate, given.times))
            attentions = (self.plain("attn", (reads, gate, None)), temporal)
        fc1 = self.linear("mlp.fc1")
        mlp = Modulation(scale_mlp, shift_mlp, self.codes("mlp.fc1"))
        end = self.gated("mlp.fc2", gate_mlp)
        if 127.5 / float(end.codes.steps.min()) >= UNIT * (_MOST16 + 1):
            raise QuantizeError(f"{self.name}.mlp.fc2: expected codes that saturate below 16; keep it in float")
        return IntegerBlock(self.unit, given.frames, given.heads, attentions, self.cross(), mlp, fc1, end)

    @property
    def unit(self) -> float:
        """Of the residual's codes, a float32 number, the same in all blocks."""
        return float(np.float32(self.most(RESIDUAL, whole=True) * ROOM / _MOST16))

    def normed(self, given: Given, norms: tuple[Array, Array], reads: Modulation, gate: Array) -> SelfAttention:
        """Attention whose q and k have norms."""
        q, k = (
            Head(self.most(f"attn.{part}") / _MOST8, weight)
            for part, weight in zip(("q_norm", "k_norm"), norms, strict=True)
        )
        reach = self.results("attn.qkv")
        channels = len(reach) // 3
        wide, v = ROOM * float(reach[: 2 * channels].max()), float(reach[2 * channels :].max()) / _MOST8
        end = self.gated("attn.proj", gate)
        temporal = given.rope is not None
        linear = self.linear("attn.qkv")
        return SelfAttention(temporal, reads, linear, q, k, v, end, qkv_reach=wide, rope=given.rope)

    def plain(self, part: str, given: tuple[Modulation | Codes, Array, Array | None]) -> SelfAttention:
        """Attention whose q and k are codes at once."""
        reads, gate, added = given
        q, k, v = (float(most.max()) / _MOST8 for most in self.results(f"{part}.qkv").chunk(3))
        end = self.gated(f"{part}.proj", gate)
        temporal = part == "attn_temp"
        return SelfAttention(temporal, reads, self.linear(f"{part}.qkv"), Head(q), Head(k), v, end, added)

    def cross(self) -> CrossAttention:
        """Attention to the caption, whose scales no step enters."""
        reach = self.model.reach[f"{self.name}.cross_attn.kv_linear"][:, self.branch].amax(0)
        k, v = (float(most.max()) / _MOST8 for most in reach.chunk(2))
        return CrossAttention(
            reads=self.codes("cross_attn.q_linear"),
            q_linear=self.linear("cross_attn.q_linear"),
            q=self.most("cross_attn.q_linear") / _MOST8,
            caption=self.codes("cross_attn.kv_linear"),
            kv=self.linear("cross_attn.kv_linear"),
            k=k,
            v=v,
            proj=self.gated("cross_attn.proj", None),
        )

    def gated(self, kind: str, gate: Array | None) -> Gated:
        """A linear that ends in the residual."""
        return Gated(self.codes(kind), self.linear(kind), ROOM * self.most(kind), gate)

    def codes(self, kind: str) -> Codes:
        """How the input of ``kind`` becomes codes."""
        layer = self.model.layer(f"{self.name}.{kind}")
        assert isinstance(layer.codes, StaticCodes)
        gain = None if layer.gain is None else layer.gain.numpy()
        return Codes(float(layer.codes.scale[self.step, self.branch]), gain)

    def linear(self, kind: str) -> IntegerLinear:
        """The integers of ``kind``."""
        layer = self.model.layer(f"{self.name}.{kind}")
        scale = layer.weight_scale.numpy().astype(np.float64) * self.codes(kind).scale
        bias = layer.bias[self.step, self.branch].numpy().astype(np.float64)
        return IntegerLinear(layer.weight.numpy().astype(np.int8, copy=False), scale, bias)

    def results(self, kind: str) -> Tensor:
        """The reach of what ``kind`` gives, by channel."""
        return self.model.reach[f"{self.name}.{kind}"][self.step, self.branch]

    def most(self, kind: str, whole: bool = False) -> float:
        """The reach of ``kind`` in all channels; ``whole`` names no part of this block."""
        name = kind if whole else f"{self.name}.{kind}"
        return max(float(self.model.reach[name][self.step, self.branch].max()), 1e-6)


@dataclass(frozen=True, eq=False)
class Given:
    """What a block is told beside its vectors.

    ============  ==================================================================================================
    norms         of an STDiT3: weights [d] of the RMS norms of q and k
    rope          of its temporal blocks: (cos, sin), each [T, d]
    times         of an STDiT's block 0: [T, C], added to what its temporal attention reads
    ============  ==================================================================================================
    """

    frames: int
    heads: int
    norms: tuple[Array, Array] | None = None
    rope: tuple[Array, Array] | None = None
    times: Array | None = None


@dataclass(eq=False)
class BlockRunner:
    """One block of a model in the place of its forward; ``made`` has what was made, by step and branch."""

    model: IntegerModel
    name: str
    module: STDiTBlock | STDiT3Block
    clock: Clock
    made: dict[tuple[int, int], IntegerBlock] = field(default_factory=dict)

    def __call__(self, x: Tensor, y: Tensor, bias: Tensor, t0: Tensor, frames: int, table: Any = None) -> Tensor:
        """As the module's forward; both branches in one batch, cond first."""
        count = len(x) // 2
        halves = []
        for branch in (0, 1):
            rows, key = slice(branch * count, (branch + 1) * count), (self.clock.step, branch)
            if key not in self.made:
                vectors = t0[rows.start].reshape(6, -1) + (self.module.scale_shift_table + _ONE_IS_ADDED)
                self.made[key] = self._block(vectors.detach().numpy(), frames, table, branch)
            halves.append(run_block(self.made[key], x[rows].numpy(), y[rows].numpy(), bias[rows].numpy()))
        return torch.from_numpy(np.concatenate(halves))

    def _block(self, vectors: Array, frames: int, table: Any, branch: int) -> IntegerBlock:
        heads = self.module.attn.heads
        if isinstance(self.module, STDiT3Block):
            rope = (table[0].numpy(), table[1].numpy()) if self.module.temporal else None
            given = Given(frames, heads, norms_of(self.module), rope)
        else:
            given = Given(frames, heads, times=None if table is None else table.numpy())
        return BlockMaker(self.model, self.name, self.clock.step, branch).block(vectors, given)


def norms_of(module: STDiT3Block) -> tuple[Array, Array]:
    """The weights of q's and k's norms."""
    norms = (module.attn.get_submodule(part).get_parameter("weight") for part in ("q_norm", "k_norm"))
    q, k = (weight.detach().numpy() for weight in norms)
    return q, k


def run_block(block: IntegerBlock, x: Array, y: Array, bias: Array) -> Array:
    """float32 [B, M, C] -> the same: codes, integers, and real values again, which the next block's codes are exactly.

    y [B, L, C], bias [B, 1, 1, L] 0 or less.
    """
    writer = BlockWriter(NumpyOperators(), block)
    codes = np.clip(np.rint(x / block.unit), -_MOST16 - 1, _MOST16).astype(np.int16)
    seen = np.where(bias[:, 0] < 0, MASKED, 0).astype(np.int32).repeat(block.heads, axis=0)
    kv = writer.caption_codes(caption_input(block, y))
    return (writer.run(codes, kv, seen) * block.unit).astype(np.float32)


def caption_input(block: IntegerBlock, y: Array) -> Array:
    """int8 codes of caption tokens [B, L, C]."""
    codes: Array = np.clip(np.rint(y * block.cross.caption.steps), -_MOST8 - 1, _MOST8).astype(np.int8)
    return codes


@contextmanager
def in_integers(model: AnyModel, integers: IntegerModel, clock: Clock) -> Iterator[Mapping[str, BlockRunner]]:
    """Inside the block the blocks of ``model`` compute in integers, by name; ``clock`` says which step."""
    names, runners = block_names(model.config), dict[str, BlockRunner]()
    for name in names:
        module = model.get_submodule(name)
        assert isinstance(module, STDiTBlock | STDiT3Block)
        runners[name] = BlockRunner(integers, name, module, clock)
        module.__dict__["forward"] = runners[name]
    try:
        yield runners
    finally:
        for name in names:
            model.get_submodule(name).__dict__.pop("forward", None)
