"""float32 convolution of padded images, stride 1.

    Y[n, o, h, w] = sum_{c, i, j} X[n, c, h + i, w + j] W[o, c, i, j]       X [N, C, H + K - 1, W + K - 1]

The tile is some output channels by some vectors along the image's row, held in registers over the products of
`CHANNELS` input channels, which are added in order of c, i, j. The patch of X that they read stays in the first cache
while all output channels of a row meet it, and their sums in a buffer of a row. A constant W is packed so that it is
read from one end to the other. Rows of the image run in parallel. Padding is a kernel of its own, so that no load needs
a test.

One core of Zen 4 with AVX2 alone, GMAC/s, of which it can do 45 (2026-11-26): 512 to 512 channels of 32x32 30 before
and 38 so, 64 to 64 30 and 41; 1x1, whose rows of all channels lie in the same sets of the first cache, 20 and 27.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tvm import s_tir, te

from tvm_flow.backends.cpu.registers import Registers, halves
from tvm_flow.graph.constants import Array, register_rule
from tvm_flow.graph.lifted import bindings_of, op_name, shape_of
from tvm_flow.graph.types import Expr, PrimFunc, Relax, Schedule

CHANNELS = 16
"""Input channels that are added up in registers, at most: what the first cache holds of a row of each."""
PARALLEL_MACS = 1 << 20
"""Convolutions below this many multiplications run on one thread: waking another costs more."""


@dataclass(frozen=True)
class ChannelBlocks:
    """How a constant weight lies for the kernel.

    W [O, C, K_h, K_w]  ->  P [C / inputs, O / outputs, inputs, K_h, K_w, outputs]
    """

    inputs: int
    outputs: int
    rule: ClassVar[str] = "pack_channels"

    @property
    def options(self) -> tuple[int, ...]:
        """See `tvm_flow.backends.base.Layout`."""
        return (self.inputs, self.outputs)

    def shape(self, plain: tuple[int, ...]) -> tuple[int, ...]:
        """Of the packed array."""
        o, c, height, width = plain
        return (c // self.inputs, o // self.outputs, self.inputs, height, width, self.outputs)

    def at(self, o: Any, c: Any, i: Any, j: Any) -> tuple[Any, ...]:
        """Where W[o, c, i, j] lies."""
        return (c // self.inputs, o // self.outputs, c % self.inputs, i, j, o % self.outputs)

    def pack(self, plain: Array) -> Array:
        """The packed array of ``plain`` [O, C, K_h, K_w]."""
        ins, outs, inputs, height, width, outputs = self.shape(plain.shape)
        blocks = plain.reshape(outs, outputs, ins, inputs, height, width)
        return np.ascontiguousarray(blocks.transpose(2, 0, 3, 4, 5, 1))

    def unpack(self, packed: Array, plain: tuple[int, ...]) -> Array:
        """The weight of shape ``plain`` that was packed."""
        return np.ascontiguousarray(packed.transpose(1, 5, 0, 2, 3, 4)).reshape(plain)


def _pack_channels(w: Array, inputs: int, outputs: int) -> Array:
    return ChannelBlocks(inputs, outputs).pack(w)


register_rule(ChannelBlocks.rule, _pack_channels)


@dataclass(frozen=True)
class Convolution:
    """Shapes of one: ``images`` [N, C, H', W'], padding included, and ``weight`` [O, C, K_h, K_w]."""

    images: tuple[int, ...]
    weight: tuple[int, ...]

    @property
    def output(self) -> tuple[int, int, int, int]:
        """[N, O, H, W]."""
        (n, _, height, width), (o, _, kh, kw) = self.images, self.weight
        return n, o, height - kh + 1, width - kw + 1


def as_convolution(function: Relax) -> Convolution | None:
    """The convolution that the kernel ``function`` is, or None."""
    bodies = [value for _, value in bindings_of(function) if op_name(value)]
    if [op_name(body) for body in bodies] != ["relax.nn.conv2d"] or len(function.params) != 2:
        return None
    images, weight = bodies[0].args
    if not (images.same_as(function.params[0]) and weight.same_as(function.params[1])):
        return None
    return Convolution(shape_of(images), shape_of(weight))


def weight_layout(shapes: Convolution, registers: Registers) -> ChannelBlocks:
    """How a constant weight of the convolution is packed for a target with ``registers``."""
    channels = shapes.weight[1]
    inputs = next(c for c in range(CHANNELS, 0, -1) if channels % c == 0)
    return ChannelBlocks(inputs, _tile(shapes, registers)[0])


def convolution(name: str, shapes: Convolution, registers: Registers, layout: ChannelBlocks | None = None) -> PrimFunc:
    """Scheduled TIR function ``name``(X, W, Y), its weight packed as ``layout`` of `weight_layout` (None: plain)."""
    x = te.placeholder(shapes.images, "float32", "X")
    w = te.placeholder(layout.shape(shapes.weight) if layout else shapes.weight, "float32", "W")
    c, i, j = (te.reduce_axis((0, extent), axis) for extent, axis in zip(shapes.weight[1:], "cij", strict=True))

    def term(n: Expr, o: Expr, row: Expr, column: Expr) -> Expr:
        weight = w[layout.at(o, c, i, j) if layout else (o, c, i, j)]
        return te.sum(x[n, c, row + i, column + j] * weight, axis=[c, i, j])

    schedule = s_tir.Schedule(te.create_prim_func([x, w, te.compute(shapes.output, term, name="Y")], "int64"))
    _schedule(schedule, shapes, registers)
    return schedule.mod["main"].with_attr("global_symbol", name)


def _tile(shapes: Convolution, registers: Registers) -> tuple[int, int, int]:
    """Output channels, vectors, and lanes of a vector."""
    _, outputs, _, width = shapes.output
    lanes = next(lanes for lanes in halves(registers.lanes) if width % lanes == 0)
    return (*registers.tile(outputs, width // lanes), lanes)


def _schedule(schedule: Schedule, shapes: Convolution, registers: Registers) -> None:
    block = schedule.get_sblock("Y")
    n, o, row, column, c, i, j = schedule.get_loops(block)
    outputs, vectors, lanes = _tile(shapes, registers)
    outer, inner = schedule.split(o, [None, outputs])
    along, vector, lane = schedule.split(column, [None, vectors, lanes])
    channels, channel = schedule.split(c, [None, weight_layout(shapes, registers).inputs])
    schedule.reorder(n, row, channels, outer, along, channel, i, j, inner, vector, lane)
    sums = schedule.cache_write(block, 0, "global")
    schedule.reverse_compute_at(sums, row, preserve_unit_loops=True)
    if math.prod(shapes.output) * math.prod(shapes.weight[1:]) >= PARALLEL_MACS:
        schedule.parallel(schedule.fuse(n, row))
    schedule.unroll(inner)
    schedule.unroll(vector)
    schedule.vectorize(lane)
    for each in (schedule.decompose_reduction(block, channels), sums):
        _, last = schedule.split(schedule.get_loops(each)[-1], [None, lanes])
        schedule.vectorize(last)
