"""The GEMM for instructions that add products of signed codes into one lane per column."""

from __future__ import annotations

from tvm import te

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.tiling import Stages
from tvm_flow.graph.types import Block, Expr, Schedule, Tensor


def sums(x: Tensor, w: Tensor, n: int, isa: Isa) -> Tensor:
    """C of `tvm_flow.backends.cpu.gemm`; the last block of weights may hold more columns than there are."""
    m, k = x.shape
    ko, ki = te.reduce_axis((0, k // isa.depth), "ko"), te.reduce_axis((0, isa.depth), "ki")

    def term(i: Expr, j: Expr) -> Expr:
        left = x[i, ko * isa.depth + ki].astype("int32")
        return te.sum(left * w[isa.layout.at(ko, ki, j)].astype("int32"), axis=[ko, ki])

    return te.compute((m, n), term, name="C")


def stages(schedule: Schedule, epilogue: Block | None) -> Stages:
    """Sums in a tile of their own, which ``epilogue`` (None: a copy) reads."""
    block = schedule.get_sblock("C")
    if epilogue is None:
        return Stages(block, schedule.cache_write(block, 0, "global"), unrolled=True)
    return Stages(block, epilogue)


def tile(schedule: Schedule, block: Block, isa: Isa) -> None:
    """Order and vectorise the sums of one tile."""
    ii, j, ko, ki = schedule.get_loops(block)[-4:]
    jv, jl = schedule.split(j, [isa.vectors, isa.lanes])
    ko, kg = schedule.split(ko, [None, isa.groups])
    schedule.reorder(ko, ii, jv, kg, jl, ki)
    schedule.unroll(ii)
    schedule.unroll(jv)
    if isa.register is None:
        schedule.reorder(ki, jl)
        schedule.vectorize(jl)
    start = schedule.decompose_reduction(block, ko)
    *outer, last = schedule.get_loops(start)
    for loop in outer[-2:]:
        schedule.unroll(loop)
    if isa.register is not None:
        schedule.vectorize(last)
        schedule.tensorize(kg if isa.groups > 1 else jl, isa.register())
