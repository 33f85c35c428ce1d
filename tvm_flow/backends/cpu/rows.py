"""Default schedule for everything but integer products: elementwise chains, row reductions, small float products.

Intermediate values are inlined into the loop that writes the output, or kept for one row when several readers or a
reduction need them. Rows run in parallel, the innermost loop in vectors; row sums keep one partial sum per lane.
"""

from __future__ import annotations

import math

from tvm import s_tir

from tvm_flow.backends.cpu.attention import attention_default, schedule_attention
from tvm_flow.backends.cpu.blocks import is_reduction, lanes_of, split_sum, written_shape
from tvm_flow.backends.cpu.choices import AttentionChoice, Choice, RowsChoice
from tvm_flow.backends.cpu.registers import Registers
from tvm_flow.backends.cpu.row_kinds import RowKind, kind_of, row_blocks, row_length
from tvm_flow.errors import BuildError
from tvm_flow.graph.types import Block, Loop, PrimFunc, Schedule

PARALLEL_ELEMENTS = 1 << 14
"""Kernels that write fewer elements run on one thread."""
WHOLE_LANES = 8
"""Vectors of at least so many lanes end with the rows that they are read from; narrower ones gain nothing by it."""
MOST_UNROLLED = 128
"""Additions that combine the partial sums of the rows of a task, when they are several."""
ROWS_TOGETHER = 4
"""Of a task whose rows are summed: each waits for its own last addition, and meanwhile the others go on."""
NEAR_ELEMENTS = 1 << 10
"""Of the rows of such a task, a page of float32: where more lie side by side, the core fetches none of them ahead. One
core of Zen 4 with AVX2, a norm and its codes of 128x96 1.6 times as fast with 4 rows as with one, 16384x96 1.4,
4096x1152 .9 (loaded, interleaved, 2026-11-26).
"""
_TUNED_ROWS = (RowKind.ELEMENTWISE, RowKind.ROWS, RowKind.PRODUCT)


def schedule_rows(function: PrimFunc, choice: Choice | None = None, registers: Registers | None = None) -> PrimFunc:
    """Scheduled copy of an unscheduled TIR function; ``choice`` is one of `tvm_flow.backends.cpu.row_candidates`, or
    the default for a target with ``registers``.

    Raises BuildError for a choice of another kind of kernel.
    """
    schedule = s_tir.Schedule(function)
    kind = kind_of(schedule)
    inner, output = row_blocks(schedule)
    if isinstance(choice, AttentionChoice) and (choice.blocks or choice.group):
        raise BuildError(f"{choice}: expected one for attention all of whose scores exist at a time; tune again")
    if kind is RowKind.ATTENTION and isinstance(choice, AttentionChoice | None):
        schedule_attention(schedule, inner, output, choice or attention_default(schedule, registers))
        return _finished(schedule)
    if not isinstance(choice, RowsChoice | None) or (choice and kind not in _TUNED_ROWS):
        raise BuildError(f"{choice}: expected a choice for a kernel of {kind.value}; tune again")
    if kind is RowKind.ELEMENTWISE:
        usual = RowsChoice(_usual_lanes(function, row_length(schedule, output)), _is_large(schedule, output))
        return _elementwise(schedule, inner, output, choice or usual)
    if kind is RowKind.PRODUCT:
        return _product(schedule, inner, output, choice)
    if kind is RowKind.ROWS:
        together = _rows_together(schedule, output)
        usual = RowsChoice(lanes_of(row_length(schedule, output)), _is_large(schedule, output), together)
        return _row_reduction(schedule, inner, output, choice or (usual if together else None))
    return _in_order(schedule, inner)


def row_default(function: PrimFunc, registers: Registers | None = None) -> AttentionChoice | RowsChoice | None:
    """The choice that `schedule_rows` makes of itself; None for a kernel of which nothing is chosen."""
    schedule = s_tir.Schedule(function)
    kind, (_, output) = kind_of(schedule), row_blocks(schedule)
    if kind is RowKind.ATTENTION:
        return attention_default(schedule, registers)
    if kind not in _TUNED_ROWS:
        return None
    columns = row_length(schedule, output)
    lanes = _usual_lanes(function, columns) if kind is RowKind.ELEMENTWISE else lanes_of(columns)
    together = _rows_together(schedule, output) if kind is RowKind.ROWS else 0
    return RowsChoice(lanes, _is_large(schedule, output), together)


def _rows_together(schedule: Schedule, output: Block) -> int:
    """Rows of a task of a kernel that sums rows, by default; 0: one."""
    *_, rows, columns = (int(schedule.get(loop).extent) for loop in schedule.get_loops(output))
    return ROWS_TOGETHER if rows % ROWS_TOGETHER == 0 and ROWS_TOGETHER * columns <= NEAR_ELEMENTS else 0


def _in_order(schedule: Schedule, inner: list[Block]) -> PrimFunc:
    """Reductions one after the other, as written; everything between them is computed where it is read."""
    for block in inner:
        if not is_reduction(schedule, block):
            schedule.compute_inline(block)
    return _finished(schedule)


def _usual_lanes(function: PrimFunc, columns: int) -> int:
    """Of vectors along ``columns`` that ``function`` writes: the widest in which nothing that it reads goes on in
    another row, such as channels of heads side by side; where those are narrow, the widest of all.
    """
    read = [parameter.shape for parameter in function.params[:-1]]
    lasts = [int(shape[-1]) for shape in read if len(shape) and int(shape[-1]) > 1]
    whole = lanes_of(math.gcd(columns, *lasts))
    return whole if whole >= WHOLE_LANES else lanes_of(columns)


def _elementwise(schedule: Schedule, inner: list[Block], output: Block, choice: RowsChoice) -> PrimFunc:
    for block in inner:
        schedule.compute_inline(block)
    loops = schedule.get_loops(output)
    if loops:
        rows = _vector_and_rows(schedule, loops, choice)
        _parallel(schedule, rows, output, choice)
    return _finished(schedule)


def _row_reduction(schedule: Schedule, inner: list[Block], output: Block, choice: RowsChoice | None) -> PrimFunc:
    sums = [block for block in inner if is_reduction(schedule, block)]
    for block in inner:
        read_once = row_length(schedule, block) > 1 and len(schedule.get_consumers(block)) == 1
        if block not in sums and (read_once or not written_shape(schedule, block)):
            schedule.compute_inline(block)
    for block in sums:
        split_sum(schedule, block)
    *rows, _ = schedule.get_loops(output)
    row, _ = _task(schedule, rows, choice)
    kept = schedule.get_child_blocks(schedule.get_sblock("root"))[:-1]
    for block in reversed(kept):
        schedule.compute_at(block, row, preserve_unit_loops=True)
    # Before sums are cut into a start and an update: TVM cannot tell any more that rows are independent then.
    _parallel(schedule, schedule.get_loops(output)[0], output, choice)
    for block in [*kept, output]:
        _vectorize_row(schedule, block, choice)
    return _finished(schedule)


def _vectorize_row(schedule: Schedule, block: Block, choice: RowsChoice | None) -> None:
    """Vectors along the last loop, unless it reduces into one element."""
    loops = schedule.get_loops(block)
    if not is_reduction(schedule, block):
        _, vector = schedule.split(loops[-1], [None, _lanes(schedule, loops[-1], choice)])
        schedule.vectorize(vector)
    elif _is_partial(schedule, block):
        lane, steps = loops[1], loops[-1]
        schedule.reorder(steps, lane)
        schedule.vectorize(lane)
        if choice is not None and choice.rows:
            _unroll(schedule, loops[2:-1])
        schedule.decompose_reduction(block, steps)
    elif choice is not None and choice.rows:
        extents = [int(schedule.get(loop).extent) for loop in loops[1:]]
        _unroll(schedule, loops[1:] if math.prod(extents) <= MOST_UNROLLED else [])


def _unroll(schedule: Schedule, loops: list[Loop]) -> None:
    """Rows of a task side by side: each of their sums waits for its own last addition alone."""
    for loop in loops:
        schedule.unroll(loop)


def _task(schedule: Schedule, rows: list[Loop], choice: RowsChoice | None) -> tuple[Loop, Loop | None]:
    """The loop over all tasks that the loops ``rows`` become, and that over the rows of a task where it has several.

    Raises BuildError where these are not a part of the last axis.
    """
    together = None
    if choice is not None and choice.rows:
        if not rows or int(schedule.get(rows[-1]).extent) % choice.rows:
            raise BuildError(f"{choice}: expected rows of a task that divide the last axis of rows; tune again")
        last, together = schedule.split(rows[-1], [None, choice.rows])
        rows = [*rows[:-1], last]
    return schedule.fuse(*rows) if len(rows) > 1 else rows[0], together


def _is_partial(schedule: Schedule, block: Block) -> bool:
    """True for a sum split by `split_sum`: it writes one element per lane."""
    return row_length(schedule, block) > 1


def _product(schedule: Schedule, inner: list[Block], output: Block, choice: RowsChoice | None) -> PrimFunc:
    """A float (or unpacked integer) matrix product: vectors along the columns, the reduction outside them."""
    for block in inner:
        schedule.compute_inline(block)
    *spatial, reduction = schedule.get_loops(output)
    if len(spatial) < 2:
        return _finished(schedule)
    *rows, column = spatial
    row, together = _task(schedule, rows, choice)
    outer, vector = schedule.split(column, [None, _lanes(schedule, column, choice)])
    schedule.reorder(row, outer, reduction, *([together] if together else []), vector)
    tile = schedule.cache_write(output, 0, "global")
    schedule.reverse_compute_at(tile, outer, preserve_unit_loops=True)
    schedule.vectorize(schedule.get_loops(tile)[-1])
    schedule.vectorize(vector)
    if together is not None:
        schedule.unroll(together)
    _parallel(schedule, row, tile, choice)
    schedule.decompose_reduction(output, reduction)
    return _finished(schedule)


def _vector_and_rows(schedule: Schedule, loops: list[Loop], choice: RowsChoice | None) -> Loop:
    """Vectorize along the innermost loop and fuse the rest; returns the loop to run in parallel."""
    lanes = _lanes(schedule, loops[-1], choice)
    outer, vector = schedule.split(loops[-1], [None, lanes])
    if lanes > 1:
        schedule.vectorize(vector)
    if choice is not None and choice.rows:
        return _task(schedule, loops[:-1], choice)[0]
    return schedule.fuse(*loops[:-1], outer) if len(loops) > 1 else outer


def _lanes(schedule: Schedule, loop: Loop, choice: RowsChoice | None) -> int:
    """Of a vector along ``loop``: those of ``choice`` where they divide it."""
    extent = int(schedule.get(loop).extent)
    return choice.lanes if choice is not None and extent % choice.lanes == 0 else lanes_of(extent)


def _is_large(schedule: Schedule, output: Block) -> bool:
    return math.prod(written_shape(schedule, output)) >= PARALLEL_ELEMENTS


def _parallel(schedule: Schedule, loop: Loop, output: Block, choice: RowsChoice | None) -> None:
    wanted = _is_large(schedule, output) if choice is None else choice.parallel
    if wanted and int(schedule.get(loop).extent) > 1:
        schedule.parallel(loop)


def _finished(schedule: Schedule) -> PrimFunc:
    return schedule.mod["main"]
