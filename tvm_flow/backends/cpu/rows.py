"""Default schedule for everything but integer products: elementwise chains, row reductions, small float products.

Intermediate values are inlined into the loop that writes the output, or kept for one row when several readers or a
reduction need them. Rows run in parallel, the innermost loop in vectors; row sums keep one partial sum per lane.
"""

from __future__ import annotations

import math
from enum import Enum

from tvm import s_tir

from tvm_flow.backends.cpu.attention import schedule_attention
from tvm_flow.backends.cpu.blocks import is_reduction, lanes_of, split_sum, written_shape
from tvm_flow.graph.types import Block, Loop, PrimFunc, Schedule

PARALLEL_ELEMENTS = 1 << 14
"""Kernels that write fewer elements run on one thread."""


class RowKind(Enum):
    """How a kernel that is no packed product is scheduled."""

    ELEMENTWISE = "elementwise"
    ROWS = "row sums"
    PRODUCT = "product"
    ATTENTION = "attention"
    IN_ORDER = "sums in order"


def row_kind(function: PrimFunc) -> RowKind:
    """What `schedule_rows` makes of an unscheduled TIR function."""
    return _kind(s_tir.Schedule(function))


def schedule_rows(function: PrimFunc) -> PrimFunc:
    """Scheduled copy of an unscheduled TIR function."""
    schedule = s_tir.Schedule(function)
    kind = _kind(schedule)
    inner, output = _blocks(schedule)
    if kind is RowKind.ELEMENTWISE:
        return _elementwise(schedule, inner, output)
    if kind is RowKind.PRODUCT:
        return _product(schedule, inner, output)
    if kind is RowKind.ATTENTION:
        schedule_attention(schedule, inner, output)
        return _finished(schedule)
    if kind is RowKind.ROWS:
        return _row_reduction(schedule, inner, output)
    return _in_order(schedule, inner)


def _blocks(schedule: Schedule) -> tuple[list[Block], Block]:
    *inner, output = schedule.get_child_blocks(schedule.get_sblock("root"))
    return inner, output


def _kind(schedule: Schedule) -> RowKind:
    inner, output = _blocks(schedule)
    reductions = [b for b in inner if is_reduction(schedule, b)]
    if not reductions and not is_reduction(schedule, output):
        return RowKind.ELEMENTWISE
    if not reductions and _reduces_last(schedule, output):
        return RowKind.PRODUCT
    if _is_attention(schedule, reductions, output):
        return RowKind.ATTENTION
    if not is_reduction(schedule, output) and _share_rows(schedule, reductions, output):
        return RowKind.ROWS
    return RowKind.IN_ORDER


def _is_attention(schedule: Schedule, reductions: list[Block], output: Block) -> bool:
    """A product of what comes from another one: see `tvm_flow.lower.clusters`."""
    return bool(reductions) and all(
        _reduces_last(schedule, block) and len(schedule.get(block).reads) == 2 for block in (reductions[0], output)
    )


def _share_rows(schedule: Schedule, reductions: list[Block], output: Block) -> bool:
    """True when every reduction has one value per row of the output, and runs along that row.

    A single row is not worth it: TVM drops its loop of one iteration, and with it the place to compute a row at.
    """
    *rows, _ = written_shape(schedule, output) or [1]
    return math.prod(rows) > 1 and all(
        math.prod(written_shape(schedule, b)) == math.prod(rows) and _reduces_last(schedule, b) for b in reductions
    )


def _reduces_last(schedule: Schedule, block: Block) -> bool:
    return [int(v.iter_type) for v in schedule.get(block).iter_vars].count(2) == 1 and (
        int(schedule.get(block).iter_vars[-1].iter_type) == 2
    )


def _in_order(schedule: Schedule, inner: list[Block]) -> PrimFunc:
    """Reductions one after the other, as written; everything between them is computed where it is read."""
    for block in inner:
        if not is_reduction(schedule, block):
            schedule.compute_inline(block)
    return _finished(schedule)


def _elementwise(schedule: Schedule, inner: list[Block], output: Block) -> PrimFunc:
    for block in inner:
        schedule.compute_inline(block)
    loops = schedule.get_loops(output)
    if loops:
        rows = _vector_and_rows(schedule, loops)
        _parallel(schedule, rows, output)
    return _finished(schedule)


def _row_reduction(schedule: Schedule, inner: list[Block], output: Block) -> PrimFunc:
    sums = [block for block in inner if is_reduction(schedule, block)]
    for block in inner:
        read_once = _row_length(schedule, block) > 1 and len(schedule.get_consumers(block)) == 1
        if block not in sums and (read_once or not written_shape(schedule, block)):
            schedule.compute_inline(block)
    for block in sums:
        split_sum(schedule, block)
    loops = schedule.get_loops(output)
    row = schedule.fuse(*loops[:-1]) if len(loops) > 2 else loops[0]
    kept = schedule.get_child_blocks(schedule.get_sblock("root"))[:-1]
    for block in reversed(kept):
        schedule.compute_at(block, row, preserve_unit_loops=True)
    # Before sums are cut into a start and an update: TVM cannot tell any more that rows are independent then.
    _parallel(schedule, schedule.get_loops(output)[0], output)
    for block in [*kept, output]:
        _vectorize_row(schedule, block)
    return _finished(schedule)


def _vectorize_row(schedule: Schedule, block: Block) -> None:
    """Vectors along the last loop, unless it reduces into one element."""
    loops = schedule.get_loops(block)
    if not is_reduction(schedule, block):
        _, vector = schedule.split(loops[-1], [None, lanes_of(int(schedule.get(loops[-1]).extent))])
        schedule.vectorize(vector)
    elif _is_partial(schedule, block):
        lane, steps = loops[1], loops[-1]
        schedule.reorder(steps, lane)
        schedule.vectorize(lane)
        schedule.decompose_reduction(block, steps)


def _is_partial(schedule: Schedule, block: Block) -> bool:
    """True for a sum split by `split_sum`: it writes one element per lane."""
    return _row_length(schedule, block) > 1


def _product(schedule: Schedule, inner: list[Block], output: Block) -> PrimFunc:
    """A float (or unpacked integer) matrix product: vectors along the columns, the reduction outside them."""
    for block in inner:
        schedule.compute_inline(block)
    *spatial, reduction = schedule.get_loops(output)
    if len(spatial) < 2:
        return _finished(schedule)
    *rows, column = spatial
    lanes = lanes_of(int(schedule.get(column).extent))
    outer, vector = schedule.split(column, [None, lanes])
    schedule.reorder(*rows, outer, reduction, vector)
    row = schedule.fuse(*rows) if len(rows) > 1 else rows[0]
    tile = schedule.cache_write(output, 0, "global")
    schedule.reverse_compute_at(tile, outer, preserve_unit_loops=True)
    schedule.vectorize(schedule.get_loops(tile)[-1])
    schedule.vectorize(vector)
    _parallel(schedule, row, tile)
    schedule.decompose_reduction(output, reduction)
    return _finished(schedule)


def _row_length(schedule: Schedule, block: Block) -> int:
    """Last extent of what ``block`` writes; 1 for a value per row."""
    shape = written_shape(schedule, block)
    return shape[-1] if shape else 1


def _vector_and_rows(schedule: Schedule, loops: list[Loop]) -> Loop:
    """Vectorize along the innermost loop and fuse the rest; returns the loop to run in parallel."""
    lanes = lanes_of(int(schedule.get(loops[-1]).extent))
    outer, vector = schedule.split(loops[-1], [None, lanes])
    if lanes > 1:
        schedule.vectorize(vector)
    return schedule.fuse(*loops[:-1], outer) if len(loops) > 1 else outer


def _parallel(schedule: Schedule, loop: Loop, output: Block) -> None:
    elements = math.prod(written_shape(schedule, output))
    if elements >= PARALLEL_ELEMENTS and int(schedule.get(loop).extent) > 1:
        schedule.parallel(loop)


def _finished(schedule: Schedule) -> PrimFunc:
    return schedule.mod["main"]
