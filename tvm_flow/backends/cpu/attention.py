"""Default schedule of softmax(Q K^T + mask) V: a few rows at a time, so that scores stay in the cache.

    Q [.., M, D], K^T [.., D, S], V [.., S, D] -> [.., M, D], all float32; a task holds `ROWS` rows of [.., S] scores

Both products keep tiles of `ROWS` x `COLUMNS` sums in registers. Whole rows of scores are there before they are divided
by their sum, so nothing needs to be rescaled and no maximum is guessed.
"""

from __future__ import annotations

import math

from tvm_flow.backends.cpu.blocks import is_reduction, lanes_of, split_sum, written_shape
from tvm_flow.backends.cpu.choices import AttentionChoice
from tvm_flow.graph.types import Block, Schedule

ROWS = 4
COLUMNS = 32
"""Sums of a tile; LLVM cuts wide vectors to the target's."""
PARALLEL_PRODUCTS = 1 << 18
"""Attention with fewer multiplications in its second product runs on one thread."""


def attention_default(schedule: Schedule, output: Block) -> AttentionChoice:
    """What is chosen for the product ``output`` unless something else is."""
    extents = [int(schedule.get(loop).extent) for loop in schedule.get_loops(output)]
    rows = next(r for r in range(ROWS, 0, -1) if extents[-3] % r == 0)
    return AttentionChoice(rows, COLUMNS, math.prod(extents) >= PARALLEL_PRODUCTS)


def schedule_attention(
    schedule: Schedule, inner: list[Block], output: Block, choice: AttentionChoice | None = None
) -> None:
    """Schedule the blocks ``inner``, of which the first is the scores' product, and the product ``output``."""
    choice = choice or attention_default(schedule, output)
    for block in inner[1:]:
        if is_reduction(schedule, block):
            split_sum(schedule, block)
        elif (
            (readers := schedule.get_consumers(block)) and len(readers) == 1 and not is_reduction(schedule, readers[0])
        ):
            schedule.compute_inline(block)
    *batch, row, _, _ = schedule.get_loops(output)
    tasks, _ = schedule.split(row, [None, choice.rows])
    task = schedule.fuse(*batch, tasks)
    scores, *softmax = schedule.get_child_blocks(schedule.get_sblock("root"))[:-1]
    for block in reversed([scores, *softmax]):
        schedule.compute_at(block, task, preserve_unit_loops=True)
    if choice.parallel:
        schedule.parallel(task)
    for block in softmax:
        _vectorize(schedule, block)
    for block in (scores, output):
        _tile_product(schedule, block, choice.columns)


def _vectorize(schedule: Schedule, block: Block) -> None:
    """Vectors along a row of scores, or along the partial results of `split_sum`."""
    *_, lane, last = schedule.get_loops(block)
    if not is_reduction(schedule, block):
        _, vector = schedule.split(last, [None, lanes_of(int(schedule.get(last).extent))])
        schedule.vectorize(vector)
    elif int(schedule.get(lane).extent) > 1 and _writes_lanes(schedule, block):
        schedule.reorder(last, lane)
        schedule.vectorize(lane)
        schedule.decompose_reduction(block, last)


def _writes_lanes(schedule: Schedule, block: Block) -> bool:
    """True for the partial results of `split_sum`."""
    return written_shape(schedule, block)[-1] > 1


def _tile_product(schedule: Schedule, block: Block, columns: int) -> None:
    """Rows x vectors of sums in registers, the reduction outside them."""
    *_, row, column, depth = schedule.get_loops(block)
    extent = int(schedule.get(column).extent)
    lanes = lanes_of(extent)
    vectors = max(v for v in range(1, max(columns // lanes, 1) + 1) if extent // lanes % v == 0)
    outer, vector, lane = schedule.split(column, [None, vectors, lanes])
    schedule.reorder(outer, depth, row, vector, lane)
    tile = schedule.cache_write(block, 0, "global")
    schedule.reverse_compute_at(tile, outer, preserve_unit_loops=True)
    _, last = schedule.split(schedule.get_loops(tile)[-1], [None, lanes])
    schedule.vectorize(last)
    schedule.vectorize(lane)
    schedule.unroll(row)
    schedule.unroll(vector)
    start = schedule.decompose_reduction(block, depth)
    *zeros, last = schedule.get_loops(start)
    schedule.vectorize(last)
    for loop in zeros[-2:]:
        schedule.unroll(loop)
