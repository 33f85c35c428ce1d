"""int8 x int8 -> int32 matrix product over packed weights, and what is made of the sums before they are stored.

    C[m, n] = sum_k X[m, k] W[k, n]        X int8 [M, K], W int8 packed [N / columns, K / depth, columns, depth]

The tile is ``rows`` x ``columns`` accumulators held in registers over the whole of K; a block of weights is read by
``tiles`` of them while it is in the cache, and such groups of tiles run in parallel. An epilogue (dequantize, bias,
GELU, gate and residual, requantize: elementwise on [M, N]) reads a tile before it leaves the core, so that int32 sums
never travel through memory. Weights of 4 bits are unpacked block by block (`tvm_flow.backends.cpu.nibbles`).
"""

from __future__ import annotations

from types import ModuleType

from tvm import s_tir, te

from tvm_flow.backends.cpu import across, biased, nibbles, pairs, plain, widened
from tvm_flow.backends.cpu.blocks import lanes_of
from tvm_flow.backends.cpu.isa import Isa, Sums
from tvm_flow.backends.cpu.tiling import PARALLEL_MACS, REARRANGED_LANES, DefaultTiling, Order, Stages, Tiling
from tvm_flow.errors import BuildError
from tvm_flow.graph.types import Block, Loop, PrimFunc, Schedule

SUMS = "C"
"""Name of the block that gives the int32 sums as [M, N]."""


__all__ = ["PARALLEL_MACS", "gemm", "gemm_definition", "schedule_gemm", "tile_gemm"]


def gemm(name: str, m: int, k: int, n: int, isa: Isa, tiling: Tiling | None = None) -> PrimFunc:
    """Scheduled TIR function ``name``(X, packed W, C); raises BuildError for a shape that ``isa`` does not fit."""
    if not isa.fits(m, k, n):
        raise BuildError(
            f"product {name}: expected M = {m}, K = {k} and N = {n} to fit {isa.name}, K a multiple of "
            f"{isa.depth * isa.groups}; use generic"
        )
    return schedule_gemm(gemm_definition(m, k, n, isa), m, k, n, isa, tiling).with_attr("global_symbol", name)


def gemm_definition(m: int, k: int, n: int, isa: Isa) -> PrimFunc:
    """The product (X, packed W, C) as an unscheduled TIR function; the shape must fit ``isa``."""
    x = te.placeholder((m, k), "int8", "X")
    w = te.placeholder(isa.layout.shape((k, n)), "int8", "W")
    codes = nibbles.unpacked(w) if isa.narrow else w
    return te.create_prim_func([x, w, _style(isa).sums(x, codes, n, isa)], "int64")


def schedule_gemm(function: PrimFunc, m: int, k: int, n: int, isa: Isa, tiling: Tiling | None = None) -> PrimFunc:
    """Scheduled copy of ``function``: the blocks of `gemm_definition`, then elementwise ones on [M, N].

    ``tiling`` is the default one when it is left out.
    """
    schedule = s_tir.Schedule(function)
    tile_gemm(schedule, m, k, n, isa, tiling or DefaultTiling())
    return schedule.mod["main"]


def tile_gemm(schedule: Schedule, m: int, k: int, n: int, isa: Isa, tiling: Tiling) -> None:
    """Apply ``tiling`` to a function as `schedule_gemm` takes."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    names = [str(schedule.get(block).name_hint) for block in blocks]
    epilogue = blocks[names.index(SUMS) + 1 :]
    for block in epilogue[:-1]:
        schedule.compute_inline(block)
    if n % isa.columns != 0 and isa.sums is Sums.WIDENED:
        schedule.compute_inline(schedule.get_sblock(widened.ROWS))
    if n % isa.columns == 0:
        stages = _style(isa).stages(schedule, epilogue[-1] if epilogue else None)
        loops = tiling.split(schedule, schedule.get_loops(stages.store)[0], m, isa)
        groups, blocks = int(schedule.get(loops[0]).extent), n // isa.columns
        _tile(schedule, stages, isa, loops, tiling.order(groups, blocks, m * n * k, isa))
    elif epilogue:
        row = schedule.get_loops(epilogue[-1])[0]
        schedule.compute_at(schedule.get_sblock(SUMS), row, preserve_unit_loops=True)


def _tile(schedule: Schedule, stages: Stages, isa: Isa, loops: tuple[Loop, Loop, Loop], order: Order) -> None:
    groups, tiles, rows = loops
    blocks, columns = schedule.split(schedule.get_loops(stages.store)[-1], [None, isa.columns])
    if order.neighbours > 1:
        blocks, near = schedule.split(blocks, [None, order.neighbours])
        schedule.reorder(groups, blocks, tiles, near, rows, columns)
        tiles = schedule.fuse(tiles, near)
    else:
        schedule.reorder(groups, blocks, tiles, rows, columns)
    if stages.prepare is None:
        outer = schedule.fuse(groups, blocks)
    else:
        chunks, blocks = schedule.split(blocks, [order.parts, None])
        outer = schedule.fuse(groups, chunks)
    if order.parallel:
        schedule.parallel(outer)
    if stages.rearrange is not None:
        schedule.compute_at(stages.rearrange, tiles, preserve_unit_loops=True)
        for loop in schedule.get_loops(stages.rearrange)[-2:]:
            schedule.unroll(loop)
    schedule.compute_at(stages.accumulate, tiles, preserve_unit_loops=True)
    if stages.prepare is not None:
        _prepare(schedule, stages.prepare, outer)
    if isa.narrow:
        nibbles.unpack_at(schedule, outer if stages.prepare is None else blocks)
    _style(isa).tile(schedule, stages.accumulate, isa)
    if stages.unrolled:
        schedule.unroll(rows)
    if stages.scalar:
        schedule.unroll(columns)
    else:
        # As wide as the accumulators: wider ones would be put together and taken apart in the inner loop.
        usual = min(REARRANGED_LANES, isa.columns) if stages.rearrange is not None else isa.lanes
        vectors, lane = schedule.split(columns, [None, order.lanes or usual])
        schedule.vectorize(lane)
        if stages.unrolled:
            schedule.unroll(vectors)


def _prepare(schedule: Schedule, block: Block, outer: Loop) -> None:
    schedule.compute_at(block, outer, preserve_unit_loops=True)
    last = schedule.get_loops(block)[-1]
    _, lane = schedule.split(last, [None, lanes_of(int(schedule.get(last).extent))])
    schedule.vectorize(lane)


_STYLES = {Sums.PLAIN: plain, Sums.BIASED: biased, Sums.WIDENED: widened, Sums.PAIRED: pairs, Sums.ACROSS: across}


def _style(isa: Isa) -> ModuleType:
    return _STYLES[isa.sums]
