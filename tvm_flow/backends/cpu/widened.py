"""The GEMM for instructions that multiply pairs of int16 (vpmaddwd): rows are widened once for many tiles.

    X16[m, k] = int16(X[m, k])        C[m, n] = sum_k X16[m, k] int16(W[k, n])

Widened in every tile, a row's codes take a third of the vector units' time. Here a task widens its rows before its
first block of columns, and its tiles read them as pairs that a load broadcasts: what is left beside products and sums
is the widening of weights, 2 instructions in 18 for a tile of 4 rows by 2 vectors. The copy, K int16 for each row of a
group of tiles, stays in the second cache. One core of Zen 4 with AVX2 alone, GMAC/s in processor time, of which the
instruction with its addition can do 73: 1024x1152x1152 45 before and 58 so, 1024x4608x1152 46 and 56 (2026-11-26).
"""

from __future__ import annotations

from tvm import te

from tvm_flow.backends.cpu import plain
from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.tiling import Stages
from tvm_flow.graph.types import Block, Expr, Schedule, Tensor

ROWS = "X16"
"""Name of the block that widens."""


def sums(x: Tensor, w: Tensor, n: int, isa: Isa) -> Tensor:
    """C of the formulas; the last block of weights may hold more columns than there are."""
    m, k = x.shape
    wide = te.compute((m, k), lambda i, j: x[i, j].astype("int16"), name=ROWS)
    ko, ki = te.reduce_axis((0, k // isa.depth), "ko"), te.reduce_axis((0, isa.depth), "ki")

    def term(i: Expr, j: Expr) -> Expr:
        left = wide[i, ko * isa.depth + ki].astype("int32")
        return te.sum(left * w[isa.layout.at(ko, ki, j)].astype("int32"), axis=[ko, ki])

    return te.compute((m, n), term, name="C")


def stages(schedule: Schedule, epilogue: Block | None) -> Stages:
    """Those of the plain product, behind the rows."""
    found = plain.stages(schedule, epilogue)
    return Stages(found.accumulate, found.store, unrolled=found.unrolled, prepare=schedule.get_sblock(ROWS))


tile = plain.tile
