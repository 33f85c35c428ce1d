"""Which of its schedules a kernel that is no packed product has, by what it adds up, and along what."""

from __future__ import annotations

import math
from enum import Enum

from tvm import s_tir

from tvm_flow.backends.cpu.attention import is_product
from tvm_flow.backends.cpu.blocks import is_reduction, written_shape
from tvm_flow.graph.types import Block, PrimFunc, Schedule


class RowKind(Enum):
    """How a kernel that is no packed product is scheduled."""

    ELEMENTWISE = "elementwise"
    ROWS = "row sums"
    PRODUCT = "product"
    ATTENTION = "attention"
    IN_ORDER = "sums in order"


def row_kind(function: PrimFunc) -> RowKind:
    """What `schedule_rows` makes of an unscheduled TIR function."""
    return kind_of(s_tir.Schedule(function))


def row_blocks(schedule: Schedule) -> tuple[list[Block], Block]:
    """What is computed on the way, in order, and the block that writes the output."""
    *inner, output = schedule.get_child_blocks(schedule.get_sblock("root"))
    return inner, output


def kind_of(schedule: Schedule) -> RowKind:
    """The kind of an unscheduled function, as long as nothing of ``schedule`` has been moved."""
    inner, output = row_blocks(schedule)
    reductions = [b for b in inner if is_reduction(schedule, b)]
    if not reductions and not is_reduction(schedule, output):
        return RowKind.ELEMENTWISE
    if not reductions and _reduces_last(schedule, output):
        return RowKind.PRODUCT
    if _is_attention(schedule, [*reductions, output]):
        return RowKind.ATTENTION
    if not is_reduction(schedule, output) and _share_rows(schedule, reductions, output):
        return RowKind.ROWS
    return RowKind.IN_ORDER


def _is_attention(schedule: Schedule, blocks: list[Block]) -> bool:
    """A product of what comes from another one: see `tvm_flow.lower.clusters`."""
    products = [block for block in blocks if is_product(schedule, block) and _reduces_last(schedule, block)]
    return len(products) == 2 and products[0] == blocks[0]


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


def row_length(schedule: Schedule, block: Block) -> int:
    """Last extent of what ``block`` writes; 1 for a value per row."""
    shape = written_shape(schedule, block)
    return shape[-1] if shape else 1
