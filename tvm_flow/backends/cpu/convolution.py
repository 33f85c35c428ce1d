"""float32 convolution of padded images, stride 1.

    Y[n, o, h, w] = sum_{c, i, j} X[n, c, h + i, w + j] W[o, c, i, j]       X [N, C, H + K - 1, W + K - 1]

The tile is ``ROWS`` output channels by a vector along the image's row, held in registers over the whole sum: 16 of
NEON's registers, 8 of AVX2's. All output channels of a place follow each other, so that the patch of X which they share
stays in the cache; rows of the image run in parallel. Padding is a kernel of its own, so that no load needs a test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import s_tir, te

from tvm_flow.backends.cpu.blocks import lanes_of
from tvm_flow.graph.lifted import bindings_of, op_name, shape_of
from tvm_flow.graph.types import PrimFunc, Relax, Schedule

ROWS = (4, 3, 2)
PARALLEL_MACS = 1 << 20
"""Convolutions below this many multiplications run on one thread: waking another costs more."""


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


def convolution(name: str, shapes: Convolution) -> PrimFunc:
    """Scheduled TIR function ``name``(X, W, Y)."""
    x = te.placeholder(shapes.images, "float32", "X")
    w = te.placeholder(shapes.weight, "float32", "W")
    c, i, j = (te.reduce_axis((0, extent), axis) for extent, axis in zip(shapes.weight[1:], "cij", strict=True))
    y = te.compute(
        shapes.output,
        lambda n, o, row, column: te.sum(x[n, c, row + i, column + j] * w[o, c, i, j], axis=[c, i, j]),
        name="Y",
    )
    schedule = s_tir.Schedule(te.create_prim_func([x, w, y]).with_attr("global_symbol", name))
    _tile(schedule, shapes)
    return schedule.mod["main"].with_attr("global_symbol", name)


def _tile(schedule: Schedule, shapes: Convolution) -> None:
    block = schedule.get_sblock("Y")
    n, o, row, column, c, i, j = schedule.get_loops(block)
    _, outputs, _, width = shapes.output
    outer, inner = schedule.split(o, [None, _largest(ROWS, outputs)])
    lanes = lanes_of(width)
    along, vector = schedule.split(column, [None, lanes])
    schedule.reorder(n, row, along, outer, c, i, j, inner, vector)
    tile = schedule.cache_write(block, 0, "global")
    schedule.reverse_compute_at(tile, outer)
    if math.prod(shapes.output) * math.prod(shapes.weight[1:]) >= PARALLEL_MACS:
        schedule.parallel(schedule.fuse(n, row))
    schedule.unroll(inner)
    if lanes == 1:  # TVM drops loops of one iteration
        schedule.decompose_reduction(block, c)
        return
    schedule.vectorize(vector)
    for each in (schedule.decompose_reduction(block, c), tile):
        *_, rows, last = schedule.get_loops(each)
        schedule.vectorize(last)
        schedule.unroll(rows)


def _largest(choices: tuple[int, ...], extent: int) -> int:
    return next((choice for choice in choices if extent % choice == 0), 1)
