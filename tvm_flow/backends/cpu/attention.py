"""Default schedule of softmax(Q K^T + mask) V: a few rows at a time, so that scores stay in the cache.

    Q [.., M, D], K^T [.., D, S], V [.., S, D] -> [.., M, D], all float32; a task holds `ROWS` rows of [.., S] scores

Both products keep tiles of `ROWS` rows of sums in registers, as wide as these allow. Whole rows of scores are there
before their exponentials are added up, so nothing needs to be rescaled and no maximum is guessed.

Where a row has more keys than channels, the sum divides what comes out, D values, and not the S weights before
(`divided_last`):

    out = (sum_j e_j v_j) / t        for        out = sum_j (e_j / t) v_j

The bound of the second, which `tvm_flow.numerics.bounded` derives from the kernel's meaning, holds for the first. Both
carry the errors of e and t alike, and sums of S products in any order. What differs is one rounding of each weight,
which may move out by u sum_j (e_j / t) |v_j|, for one rounding of out, which moves it by u |out|, and that is not more.
A weight is at most 1 in both, because e_j is at most 1 and t at least 1.

The sums before it are t times as large, t at most S, so values beyond 3e38 / S may overflow where shares would not.

This is the schedule of small attention, of frames for one, and of what is more than a softmax between two products;
`tvm_flow.backends.cpu.streaming` has the rest. One core of Zen 4 with AVX2 alone, which does 45 GMAC/s at most
(2026-11-26): 16 keys 18, where 64 x 64 and less are slower with packed keys.
"""

from __future__ import annotations

import math

from tvm import relax

from tvm_flow.backends.cpu.blocks import is_reduction, lanes_of, split_sum, written_shape
from tvm_flow.backends.cpu.choices import AttentionChoice
from tvm_flow.backends.cpu.registers import Registers
from tvm_flow.backends.cpu.tiling import start_from_zero
from tvm_flow.graph.lifted import bindings_of, call_with, op_name, returned, shape_of
from tvm_flow.graph.types import Block, Relax, Schedule

ROWS = 4
COLUMNS = 32
"""Sums of a tile where nothing is known of the registers."""
PARALLEL_PRODUCTS = 1 << 18
"""Attention with fewer multiplications in its second product runs on one thread."""


def divided_last(function: Relax) -> Relax:
    """``function`` with what its product gives divided by the sum of weights; itself where that is no less work.

    See the module for why the bound of the one holds for the other.
    """
    values, result = dict(bindings_of(function)), returned(function)
    product = values.get(result, result)
    weights = values.get(product.args[0]) if op_name(product) == "relax.matmul" else None
    if weights is None or op_name(weights) != "relax.divide" or shape_of(weights.args[1])[-1:] != (1,):
        return function
    if shape_of(product)[-1] >= shape_of(weights)[-1]:
        return function
    power, total = weights.args
    block = relax.BlockBuilder()
    local = {p: relax.Var(p.name, p.ty) for p in function.params}
    with block.function("kernel", list(local.values())):
        with block.dataflow():
            for var, value in values.items():
                if var not in (product.args[0], result) and op_name(value):
                    local[var] = block.emit(call_with(value, [local.get(arg, arg) for arg in value.args]))
            sums = block.emit(call_with(product, [local[power], local.get(product.args[1], product.args[1])]))
            output = block.emit_output(relax.op.divide(sums, local[total]))
        block.emit_func_output(output)
    return block.get()["kernel"]


def attention_default(schedule: Schedule, registers: Registers | None) -> AttentionChoice:
    """What is chosen of the attention in ``schedule`` for a target with ``registers`` unless something else is."""
    product = products_of(schedule)[-1]
    extents = [int(schedule.get(loop).extent) for loop in schedule.get_loops(product)]
    rows = next(r for r in range(ROWS, 0, -1) if extents[-3] % r == 0)
    columns = registers.columns(rows) * registers.lanes if registers else COLUMNS
    return AttentionChoice(rows, columns, math.prod(extents) >= PARALLEL_PRODUCTS)


def schedule_attention(schedule: Schedule, inner: list[Block], output: Block, choice: AttentionChoice) -> None:
    """Schedule the blocks ``inner``, of which the first is the scores' product, and what writes: ``output``."""
    for block in inner:
        if is_product(schedule, block):
            continue
        if is_reduction(schedule, block):
            split_sum(schedule, block)
        elif (
            (readers := schedule.get_consumers(block)) and len(readers) == 1 and not is_reduction(schedule, readers[0])
        ):
            schedule.compute_inline(block)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    products = [block for block in blocks if is_product(schedule, block)]
    *batch, row, _ = schedule.get_loops(output)[: len(written_shape(schedule, output))]
    tasks, _ = schedule.split(row, [None, choice.rows])
    task = schedule.fuse(*batch, tasks)
    for block in reversed(blocks[:-1]):
        schedule.compute_at(block, task, preserve_unit_loops=True)
    if choice.parallel:
        schedule.parallel(task)
    for block in blocks:
        if block not in products:
            _vectorize(schedule, block)
    for block in products:
        _tile_product(schedule, block, choice.columns)


def products_of(schedule: Schedule) -> list[Block]:
    """The blocks of an attention that are products, in order."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    return [block for block in blocks if is_product(schedule, block)]


def is_product(schedule: Schedule, block: Block) -> bool:
    """True for a block that adds up what it multiplies of two tensors."""
    return is_reduction(schedule, block) and len(schedule.get(block).reads) == 2


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


def vectors_of_tile(extent: int, columns: int) -> int:
    """Of `lanes_of` ``extent`` each, that tiles of up to ``columns`` of so many have."""
    lanes = lanes_of(extent)
    return max(v for v in range(1, max(columns // lanes, 1) + 1) if extent // lanes % v == 0)


def _tile_product(schedule: Schedule, block: Block, columns: int) -> None:
    """Rows x vectors of sums in registers, the reduction outside them."""
    *_, row, column, depth = schedule.get_loops(block)
    extent = int(schedule.get(column).extent)
    lanes, vectors = lanes_of(extent), vectors_of_tile(extent, columns)
    outer, vector, lane = schedule.split(column, [None, vectors, lanes])
    schedule.reorder(outer, depth, row, vector, lane)
    tile = schedule.cache_write(block, 0, "global")
    schedule.reverse_compute_at(tile, outer, preserve_unit_loops=True)
    _, last = schedule.split(schedule.get_loops(tile)[-1], [None, lanes])
    schedule.vectorize(last)
    schedule.vectorize(lane)
    schedule.unroll(row)
    schedule.unroll(vector)
    start_from_zero(schedule, block, depth)
