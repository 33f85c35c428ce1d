"""The GEMM for instructions that multiply unsigned by signed codes (vpdpbusd), exact for all of int8.

    P[m, n] = sum_k X[m, k] (W[k, n] + 128)        S[m] = sum_k X[m, k]        C[m, n] = P[m, n] - 128 S[m]

W + 128 is W with its top bit flipped, done as the weights are loaded. The row sums cost 1 / N of the product. P lies
in registers over the whole of K and may wrap around; arithmetic modulo 2^32 gives C all the same, and the subtraction
is unsigned so that LLVM makes no assumption about overflow.
"""

from __future__ import annotations

from tvm import te, tirx

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.tiling import Stages, start_from_zero
from tvm_flow.graph.types import Block, Expr, Schedule, Tensor

BIAS = 128


def sums(x: Tensor, w: Tensor, n: int, isa: Isa) -> Tensor:
    """C of the formulas; ``n`` a multiple of ``isa.columns``."""
    m, k = x.shape
    ko, ki = te.reduce_axis((0, k // isa.depth), "ko"), te.reduce_axis((0, isa.depth), "ki")
    ks = te.reduce_axis((0, k), "ks")
    totals = te.compute((m,), lambda i: te.sum(x[i, ks].astype("int32"), axis=ks), name="S")

    def term(i: Expr, j: Expr) -> Expr:
        right = w[isa.layout.at(ko, ki, j)].astype("int32") + BIAS
        return te.sum(x[i, ko * isa.depth + ki].astype("int32") * right, axis=[ko, ki])

    products = te.compute((m, n), term, name="P")

    def unbiased(i: Expr, j: Expr) -> Expr:
        correction = totals[i].astype("uint32") * tirx.const(BIAS, "uint32")
        return (products[i, j].astype("uint32") - correction).astype("int32")

    return te.compute((m, n), unbiased, name="C")


def stages(schedule: Schedule, epilogue: Block | None) -> Stages:
    """The subtraction happens as a tile is stored."""
    block, unbiased = schedule.get_sblock("P"), schedule.get_sblock("C")
    if epilogue is None:
        return Stages(block, unbiased, unrolled=True)
    schedule.compute_inline(unbiased)
    return Stages(block, epilogue)


def tile(schedule: Schedule, block: Block, isa: Isa) -> None:
    """Order and vectorise the sums of one tile."""
    pi, pj, ko, ki = schedule.get_loops(block)[2:]
    pv, pl = schedule.split(pj, [isa.vectors, isa.lanes])
    schedule.reorder(ko, pi, pv, pl, ki)
    schedule.unroll(pi)
    schedule.unroll(pv)
    start_from_zero(schedule, block, ko)
    if isa.register is not None:
        schedule.tensorize(pl, isa.register())
