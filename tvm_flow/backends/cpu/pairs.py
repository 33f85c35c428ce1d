"""The GEMM for instructions that multiply 2x8 by 8x2 codes (SMMLA): accumulators are 2x2 blocks in one register.

    X2[i, s, a, c] = X[2 i + a, 8 s + c]
    P[i, j, a, b] = sum_k X[2 i + a, k] W[k, 2 j + b]        C[m, n] = P[m / 2, n / 2, m % 2, n % 2]

A task lays its rows out in twos before its first block of columns (X2, K bytes for each row, which stay in the second
cache), so that a tile reads two rows' codes as one register: put together in every tile they took one instruction on
the units that multiply for every eight products. The blocks live in registers over the whole of K and are unpicked into
rows once, when the tile is stored.
"""

from __future__ import annotations

from tvm import te

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.tiling import Stages
from tvm_flow.graph.types import Block, Expr, Schedule, Tensor

ROWS = "X2"
"""Name of the block that lays rows out in twos."""


def sums(x: Tensor, w: Tensor, n: int, isa: Isa) -> Tensor:
    """C of the formulas; rows even, ``n`` a multiple of ``isa.columns``."""
    m, k = x.shape
    twos = te.compute(
        (m // 2, k // isa.depth, 2, isa.depth), lambda i, s, a, c: x[i * 2 + a, s * isa.depth + c], name=ROWS
    )
    ko, ki = te.reduce_axis((0, k // isa.depth), "ko"), te.reduce_axis((0, isa.depth), "ki")

    def term(i: Expr, j: Expr, a: Expr, b: Expr) -> Expr:
        column = j * 2 + b
        left = twos[i, ko, a, ki].astype("int32")
        right = w[isa.layout.at(ko, ki, column)].astype("int32")
        return te.sum(left * right, axis=[ko, ki])

    blocks = te.compute((m // 2, n // 2, 2, 2), term, name="P")
    return te.compute((m, n), lambda i, j: blocks[i // 2, j // 2, i % 2, j % 2], name="C")


def stages(schedule: Schedule, epilogue: Block | None) -> Stages:
    """Unpicked straight to where the sums go, or into a tile of rows for ``epilogue``."""
    block, rows = schedule.get_sblock("P"), schedule.get_sblock("C")
    if epilogue is None:
        return Stages(block, rows, prepare=schedule.get_sblock(ROWS), unrolled=True, scalar=True)
    return Stages(block, epilogue, rearrange=rows, prepare=schedule.get_sblock(ROWS))


def tile(schedule: Schedule, block: Block, isa: Isa) -> None:
    """Order and vectorise the sums of one tile."""
    pi, pj, a, b, ko, ki = schedule.get_loops(block)[-6:]
    ko, kg = schedule.split(ko, [None, isa.groups])
    schedule.reorder(ko, pj, pi, kg, a, b, ki)
    schedule.unroll(pi)
    schedule.unroll(pj)
    start = schedule.decompose_reduction(block, ko)
    *outer, za, zb = schedule.get_loops(start)
    for loop in outer[-2:]:
        schedule.unroll(loop)
    schedule.vectorize(schedule.fuse(za, zb))
    if isa.register is not None:
        schedule.tensorize(kg, isa.register())
