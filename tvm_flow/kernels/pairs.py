"""The GEMM for instructions that multiply 2x8 by 8x2 codes (SMMLA): accumulators are 2x2 blocks in one register.

    P[i, j, a, b] = sum_k X[2 i + a, k] W[k, 2 j + b]        C[m, n] = P[m / 2, n / 2, m % 2, n % 2]

The blocks live in registers over the whole of K and are unpicked into rows once, when the tile is stored.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, te

from tvm_flow.kernels.isa import Isa


def gemm_pairs(name: str, m: int, k: int, n: int, isa: Isa, parallel: bool) -> Any:
    """Scheduled TIR function ``name``(X, packed W, C); ``m`` even, ``n`` a multiple of ``isa.columns``."""
    x = te.placeholder((m, k), "int8", "X")
    w = te.placeholder((n // isa.columns, k // isa.depth, isa.columns, isa.depth), "int8", "W")
    ko = te.reduce_axis((0, k // isa.depth), "ko")
    ki = te.reduce_axis((0, isa.depth), "ki")

    def term(i: Any, j: Any, a: Any, b: Any) -> Any:
        column = j * 2 + b
        left = x[i * 2 + a, ko * isa.depth + ki].astype("int32")
        right = w[column // isa.columns, ko, column % isa.columns, ki].astype("int32")
        return te.sum(left * right, axis=[ko, ki])

    blocks = te.compute((m // 2, n // 2, 2, 2), term, name="P")
    product = te.compute((m, n), lambda i, j: blocks[i // 2, j // 2, i % 2, j % 2], name="C")
    schedule = s_tir.Schedule(te.create_prim_func([x, w, product]))
    _tile(schedule, m, isa, parallel)
    return schedule.mod["main"].with_attr("global_symbol", name)


def _tile(schedule: Any, m: int, isa: Isa, parallel: bool) -> None:
    block, store = schedule.get_sblock("P"), schedule.get_sblock("C")
    i, j = schedule.get_loops(store)
    rows = max(r for r in range(2, isa.rows + 1, 2) if m % r == 0)
    io, ii = schedule.split(i, [None, rows])
    jo, ji = schedule.split(j, [None, isa.columns])
    schedule.reorder(io, jo, ii, ji)
    if parallel:
        schedule.parallel(io)
    schedule.compute_at(block, jo, preserve_unit_loops=True)
    pi, pj, a, b, ko, ki = schedule.get_loops(block)[2:]
    ko, kg = schedule.split(ko, [None, isa.groups])
    schedule.reorder(ko, pj, pi, kg, a, b, ki)
    for loop in (pi, pj, ii):
        schedule.unroll(loop)
    start = schedule.decompose_reduction(block, ko)
    *outer, za, zb = schedule.get_loops(start)
    for loop in outer[2:]:
        schedule.unroll(loop)
    schedule.vectorize(schedule.fuse(za, zb))
    schedule.unroll(ji)
    if isa.register is not None:
        schedule.tensorize(kg, isa.register())
