"""int8 x int8 -> int32 matrix product over packed weights.

    C[m, n] = sum_k X[m, k] W[k, n]        X int8 [M, K], W int8 packed [N / columns, K / depth, columns, depth]

The tile is ``rows`` x ``columns`` accumulators held in registers over the whole of K; blocks of rows run in parallel.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, te

from tvm_flow.errors import BuildError
from tvm_flow.kernels.biased import gemm_biased
from tvm_flow.kernels.isa import Isa
from tvm_flow.kernels.pairs import gemm_pairs

PARALLEL_MACS = 1 << 20
"""Products below this many multiplications run on one thread: waking another costs more."""


def gemm(name: str, m: int, k: int, n: int, isa: Isa) -> Any:
    """Scheduled TIR function ``name``(X, packed W, C); raises BuildError for a shape that ``isa`` does not fit."""
    if not isa.fits(m, k, n):
        raise BuildError(
            f"product {name}: expected M = {m}, K = {k} and N = {n} to fit {isa.name}, K a multiple of "
            f"{isa.depth * isa.groups}; use generic"
        )
    if isa.paired:
        return gemm_pairs(name, m, k, n, isa, m * n * k >= PARALLEL_MACS)
    if isa.biased:
        return gemm_biased(name, m, k, n, isa, m * n * k >= PARALLEL_MACS)
    blocks = -(-n // isa.columns)
    x = te.placeholder((m, k), "int8", "X")
    w = te.placeholder((blocks, k // isa.depth, isa.columns, isa.depth), "int8", "W")
    ko = te.reduce_axis((0, k // isa.depth), "ko")
    ki = te.reduce_axis((0, isa.depth), "ki")
    product = te.compute(
        (m, n),
        lambda i, j: te.sum(
            x[i, ko * isa.depth + ki].astype("int32") * w[j // isa.columns, ko, j % isa.columns, ki].astype("int32"),
            axis=[ko, ki],
        ),
        name="C",
    )
    function = te.create_prim_func([x, w, product]).with_attr("global_symbol", name)
    schedule = s_tir.Schedule(function)
    if n % isa.columns == 0:
        _tile(schedule, m, m * n * k, isa)
    return schedule.mod["main"].with_attr("global_symbol", name)


def _tile(schedule: Any, m: int, macs: int, isa: Isa) -> None:
    block = schedule.get_sblock("C")
    i, j, ko, ki = schedule.get_loops(block)
    rows = max(r for r in range(1, isa.rows + 1) if m % r == 0)
    io, ii = schedule.split(i, [None, rows])
    jo, jv, jl = schedule.split(j, [None, isa.vectors, isa.lanes])
    ko, kg = schedule.split(ko, [None, isa.groups])
    schedule.reorder(io, jo, ko, ii, jv, kg, jl, ki)
    tile = schedule.cache_write(block, 0, "global")
    schedule.reverse_compute_at(tile, jo)
    if macs >= PARALLEL_MACS:
        schedule.parallel(io)
    schedule.unroll(ii)
    schedule.unroll(jv)
    if isa.register is None:
        schedule.reorder(ki, jl)
        schedule.vectorize(jl)
    start = schedule.decompose_reduction(block, ko)
    for loop in schedule.get_loops(start)[2:-1]:
        schedule.unroll(loop)
    if isa.register is not None:
        schedule.vectorize(schedule.get_loops(start)[-1])
    *store, last = schedule.get_loops(tile)
    _, lanes = schedule.split(last, [None, isa.lanes])
    schedule.vectorize(lanes)
    for loop in store[2:]:
        schedule.unroll(loop)
    if isa.register is not None:
        schedule.tensorize(kg if isa.groups > 1 else jl, isa.register())
