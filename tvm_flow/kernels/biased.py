"""The GEMM for instructions that multiply unsigned by signed codes (vpdpbusd), exact for all of int8.

    P[m, n] = sum_k X[m, k] (W[k, n] + 128)        S[m] = sum_k X[m, k]        C[m, n] = P[m, n] - 128 S[m]

W + 128 is W with its top bit flipped, done as the weights are loaded. The row sums cost 1 / N of the product. P lies
in registers over the whole of K and may wrap around; arithmetic modulo 2^32 gives C all the same, and the subtraction
is unsigned so that LLVM makes no assumption about overflow.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, te, tirx

from tvm_flow.kernels.isa import Isa

BIAS = 128
TILES = 16
"""A block of weights is read this many times while it is in the cache."""


def gemm_biased(name: str, m: int, k: int, n: int, isa: Isa, parallel: bool) -> Any:
    """Scheduled TIR function ``name``(X, packed W, C); ``n`` a multiple of ``isa.columns``."""
    x = te.placeholder((m, k), "int8", "X")
    w = te.placeholder((n // isa.columns, k // isa.depth, isa.columns, isa.depth), "int8", "W")
    ko, ki = te.reduce_axis((0, k // isa.depth), "ko"), te.reduce_axis((0, isa.depth), "ki")
    ks = te.reduce_axis((0, k), "ks")
    sums = te.compute((m,), lambda i: te.sum(x[i, ks].astype("int32"), axis=ks), name="S")

    def term(i: Any, j: Any) -> Any:
        right = w[j // isa.columns, ko, j % isa.columns, ki].astype("int32") + BIAS
        return te.sum(x[i, ko * isa.depth + ki].astype("int32") * right, axis=[ko, ki])

    products = te.compute((m, n), term, name="P")

    def unbiased(i: Any, j: Any) -> Any:
        return (products[i, j].astype("uint32") - sums[i].astype("uint32") * tirx.const(BIAS, "uint32")).astype("int32")

    product = te.compute((m, n), unbiased, name="C")
    schedule = s_tir.Schedule(te.create_prim_func([x, w, product]))
    _tile(schedule, m, isa, parallel)
    return schedule.mod["main"].with_attr("global_symbol", name)


def _tile(schedule: Any, m: int, isa: Isa, parallel: bool) -> None:
    block, store = schedule.get_sblock("P"), schedule.get_sblock("C")
    i, j = schedule.get_loops(store)
    rows = max(r for r in range(1, isa.rows + 1) if m % r == 0)
    io, ii = schedule.split(i, [None, rows])
    jo, jv, jl = schedule.split(j, [None, isa.vectors, isa.lanes])
    tiles = max(t for t in range(1, TILES + 1) if m // rows % t == 0)
    io, ib = schedule.split(io, [None, tiles])
    schedule.reorder(io, jo, ib, ii, jv, jl)
    outer = schedule.fuse(io, jo)
    if parallel:
        schedule.parallel(outer)
    schedule.compute_at(block, ib, preserve_unit_loops=True)
    pi, pj, ko, ki = schedule.get_loops(block)[2:]
    pv, pl = schedule.split(pj, [isa.vectors, isa.lanes])
    schedule.reorder(ko, pi, pv, pl, ki)
    for loop in (pi, pv, ii, jv):
        schedule.unroll(loop)
    start = schedule.decompose_reduction(block, ko)
    *zeros, last = schedule.get_loops(start)
    for loop in zeros[2:]:
        schedule.unroll(loop)
    schedule.vectorize(last)
    schedule.vectorize(jl)
    if isa.register is not None:
        schedule.tensorize(pl, isa.register())
