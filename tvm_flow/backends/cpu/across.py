"""The GEMM for instructions that multiply along K alone: an accumulator holds parts of the sum of one row and column.

    P[m, n, l] = sum over k in lane l of X[m, k] W[k, n]        C[m, n] = sum_l P[m, n, l]

Rows and weights are both read as they lie, so that nothing is broadcast. The parts live in registers over the whole of
K and are added up once, when the tile is stored. Lane l of ``LANES`` has codes 2 l and 2 l + 1 of every eight.
"""

from __future__ import annotations

from tvm import te

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.tiling import Stages, start_from_zero
from tvm_flow.graph.types import Block, Expr, Schedule, Tensor

LANES, PAIR = 4, 2
"""Parts of a sum, and neighbouring codes of one part."""


def sums(x: Tensor, w: Tensor, n: int, isa: Isa) -> Tensor:
    """C of the formulas; ``n`` a multiple of ``isa.columns``, ``isa.depth`` one of `LANES` * `PAIR`."""
    m, k = x.shape
    ko = te.reduce_axis((0, k // isa.depth), "ko")
    kh, kp = te.reduce_axis((0, isa.depth // (LANES * PAIR)), "kh"), te.reduce_axis((0, PAIR), "kp")

    def term(i: Expr, j: Expr, lane: Expr) -> Expr:
        code = kh * (LANES * PAIR) + lane * PAIR + kp
        left = x[i, ko * isa.depth + code].astype("int32")
        return te.sum(left * w[isa.layout.at(ko, code, j)].astype("int32"), axis=[ko, kh, kp])

    parts = te.compute((m, n, LANES), term, name="P")

    def total(i: Expr, j: Expr) -> Expr:
        return (parts[i, j, 0] + parts[i, j, 1]) + (parts[i, j, 2] + parts[i, j, 3])

    return te.compute((m, n), total, name="C")


def stages(schedule: Schedule, epilogue: Block | None) -> Stages:
    """Added up straight to where the sums go, or into a tile of rows for ``epilogue``."""
    block, rows = schedule.get_sblock("P"), schedule.get_sblock("C")
    if epilogue is None:
        return Stages(block, rows, unrolled=True, scalar=True)
    return Stages(block, epilogue, rearrange=rows)


def tile(schedule: Schedule, block: Block, isa: Isa) -> None:
    """Order and vectorise the parts of one tile."""
    pi, pj, pl, ko, kh, kp = schedule.get_loops(block)[2:]
    ko, kg = schedule.split(ko, [None, isa.groups])
    schedule.reorder(ko, kg, pi, pj, kh, pl, kp)
    for loop in (kg, pi, pj):
        schedule.unroll(loop)
    start_from_zero(schedule, block, ko)
    if isa.register is not None:
        schedule.tensorize(kh, isa.register())
