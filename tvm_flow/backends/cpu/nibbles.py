"""Weights of 4 bits, two in a byte: a block of columns is unpacked once for the tiles of rows that read it.

    W8[b, s, c, d] = sign-extended nibble c / (columns / 2) of Q[b, s, c % (columns / 2), d]

The products are those of codes in bytes, whatever the instruction: nothing of them knows. What it costs is a few
operations for each byte and group of tiles, on a block that stays in the second cache.
"""

from __future__ import annotations

from tvm import te, tirx

from tvm_flow.backends.cpu.blocks import lanes_of
from tvm_flow.graph.types import Expr, Loop, Schedule, Tensor

CODES = "W8"
"""Name of the block that unpacks."""


def unpacked(w: Tensor) -> Tensor:
    """W8 of the formula; w is the packed Q."""
    blocks, steps, half, depth = w.shape

    def code(b: Expr, s: Expr, c: Expr, d: Expr) -> Expr:
        byte = w[b, s, c % half, d]
        low = (byte << tirx.const(4, "int8")) >> tirx.const(4, "int8")
        return tirx.Select(c < half, low, byte >> tirx.const(4, "int8"))

    return te.compute((blocks, steps, half * 2, depth), code, name=CODES)


def unpack_at(schedule: Schedule, loop: Loop) -> None:
    """Unpack what the iterations of ``loop`` read at its start."""
    block = schedule.get_sblock(CODES)
    schedule.compute_at(block, loop, preserve_unit_loops=True)
    *_, columns, depth = schedule.get_loops(block)
    half, column = schedule.split(columns, [2, None])
    schedule.unroll(half)
    bytes_ = schedule.fuse(column, depth)
    _, lane = schedule.split(bytes_, [None, lanes_of(int(schedule.get(bytes_).extent))])
    schedule.vectorize(lane)
