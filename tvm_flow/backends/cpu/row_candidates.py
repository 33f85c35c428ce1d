"""The candidates of a kernel that is no packed product and does not stream, beside its default."""

from __future__ import annotations

import math

from tvm import s_tir

from tvm_flow.backends.cpu.attention import PARALLEL_PRODUCTS, products_of, vectors_of_tile
from tvm_flow.backends.cpu.blocks import written_shape
from tvm_flow.backends.cpu.candidates import attention_space, other_threads, rows_space
from tvm_flow.backends.cpu.choices import AttentionChoice, Choice, RowsChoice
from tvm_flow.backends.cpu.registers import PLAIN, Registers
from tvm_flow.backends.cpu.row_kinds import RowKind, kind_of, row_blocks, row_length
from tvm_flow.backends.cpu.rows import PARALLEL_ELEMENTS, row_default
from tvm_flow.graph.types import Block, PrimFunc, Schedule

CACHED_ELEMENTS = 1 << 13
"""Of the rows of a task, when several are tried: 32 KiB of float32."""
FEWEST_ELEMENTS = 1 << 10
"""Of an output whose kernel is worth a choice: below, a call costs more than its loop."""


def row_choices(function: PrimFunc, registers: Registers | None = None) -> list[Choice]:
    """What `tvm_flow.backends.cpu.rows.schedule_rows` takes beside its default, the nearest first."""
    schedule = s_tir.Schedule(function)
    kind, (_, output), default = kind_of(schedule), row_blocks(schedule), row_default(function, registers)
    if isinstance(default, AttentionChoice):
        products = [[int(schedule.get(loop).extent) for loop in schedule.get_loops(p)] for p in products_of(schedule)]
        (*_, rows, columns, _), (*_, channels, _) = products
        others = other_threads(default, math.prod(products[-1]), PARALLEL_PRODUCTS)
        tiles: dict[tuple[int, ...], Choice] = {}  # of those that come to the same, the one nearest to the default
        for each in [default, *attention_space(rows, columns, default, registers or PLAIN)]:
            key = (each.rows, *(vectors_of_tile(extent, each.columns) for extent in (columns, channels)))
            tiles.setdefault(key, each)
        return [*others, *list(tiles.values())[1:]]
    elements = math.prod(written_shape(schedule, output))
    if default is None or elements < FEWEST_ELEMENTS:
        return []
    space = rows_space(row_length(schedule, output), _task_rows(schedule, kind, output), default)
    if kind is RowKind.PRODUCT:
        space = [each for each in space if _sums_fit(each, registers or PLAIN)]
    return [*other_threads(default, elements, PARALLEL_ELEMENTS), *space]


def _task_rows(schedule: Schedule, kind: RowKind, output: Block) -> list[int]:
    """Rows of a task that are tried: they divide the last axis of rows, and lie in the first cache."""
    shape = written_shape(schedule, output)
    if len(shape) < 2:
        return []
    tried = (1, 4, 16) if kind is RowKind.ELEMENTWISE else (2, 4, 8)
    return [rows for rows in tried if shape[-2] % rows == 0 and rows * shape[-1] <= CACHED_ELEMENTS]


def _sums_fit(choice: RowsChoice, registers: Registers) -> bool:
    return max(choice.rows, 1) * -(-choice.lanes // registers.lanes) <= registers.count * 3 // 2
