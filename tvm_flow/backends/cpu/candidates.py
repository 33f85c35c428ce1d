"""The candidates that `tvm_flow.tune` tries of a kernel beside its default, those next to it first.

What registers and caches cannot hold is left out, but for half as much again as the registers are meant for: what a
core makes of a few spills is for the measurement to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from math import log2
from typing import TypeVar

from tvm_flow.backends.cpu.choices import (
    AttentionChoice,
    Choice,
    FloatChoice,
    ProductChoice,
    RowsChoice,
    parts_of,
    product_default,
)
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.cpu.registers import Registers
from tvm_flow.backends.cpu.tiling import MOST_TILES, REARRANGED_LANES

AnyChoice = TypeVar("AnyChoice", ProductChoice, AttentionChoice, RowsChoice, FloatChoice)
NEAR = 16
"""How far from the default's threshold for threads a kernel is tried on both sides of it."""


def product_space(product: Product, parallel: bool) -> list[ProductChoice]:
    """Every other choice for ``product``, those next to the default first; none where columns are not whole blocks.

    ``parallel`` is whether the default runs on several threads.
    """
    if product.n % product.isa.columns:
        return []
    m, step, default = product.m, 2 if product.isa.paired else 1, product_default(product, parallel)
    most = max(product.isa.rows * 3 // 2, step)
    space = [
        ProductChoice(rows, tiles, blocks, parts, parallel, lanes)
        for rows in range(step, most + 1, step)
        if m % rows == 0
        for tiles in _powers_and_whole(m // rows, 4 * MOST_TILES)
        for blocks in _powers_and_whole(product.n // product.isa.columns, 16)
        for parts in _part_choices(product, rows * tiles, blocks)
        for lanes in (0, *_other_lanes(product))
    ]
    return sorted((each for each in space if each != default), key=lambda each: _distance(each, default))


def _part_choices(product: Product, group: int, blocks: int) -> list[int]:
    """Numbers of parts around the default's that divide the blocks; 1 where rows are read as they lie."""
    usual, extent = parts_of(product, group), product.n // product.isa.columns // blocks
    wanted = (usual, usual * 2, usual // 2) if product.isa.prepares_rows else (usual,)
    return [parts for parts in wanted if parts and extent % parts == 0]


def _other_lanes(product: Product) -> list[int]:
    """Of vectors of what follows a product, beside the default's; none where nothing follows."""
    isa = product.isa
    usual = min(REARRANGED_LANES, isa.columns) if isa.paired else isa.lanes
    return [lanes for lanes in (8, 4, 16) if product.epilogue and lanes != usual and isa.columns % lanes == 0]


def attention_space(
    rows: int,
    columns: int,
    default: AttentionChoice,
    registers: Registers,
    cuts: Sequence[tuple[int, int]] = ((0, 0),),
) -> list[AttentionChoice]:
    """Every other choice for attention over ``rows`` of ``columns`` scores a head, next to the default first.

    ``cuts`` are (blocks of keys, rows whose scores exist at a time) where the attention streams.
    """
    space = [
        AttentionChoice(r, c, default.parallel, blocks, group)
        for r in range(1, 13)
        if rows % r == 0
        for c in (8, 16, 24, 32, 48, 64)
        if r * -(-c // registers.lanes) <= registers.count * 3 // 2 and (c <= columns or c == default.columns)
        for blocks, group in cuts
    ]
    return sorted((each for each in space if each != default), key=lambda each: _distance(each, default))


def float_space(rows: int, last: int, vectors: int, default: FloatChoice) -> list[FloatChoice]:
    """Every other choice for a float product of ``rows`` by so many ``vectors``, next to the default first.

    ``last`` are the rows of which a tile has a part. The default's tile is the largest that registers hold.
    """
    most = default.rows * default.vectors * 3 // 2
    space = [
        FloatChoice(high, wide, tiles, default.parallel)
        for wide in range(1, min(vectors, most) + 1)
        if vectors % wide == 0 and max(wide, default.vectors) % min(wide, default.vectors) == 0
        for high in range(1, min(last, most // wide) + 1)
        if last % high == 0
        for tiles in _powers_and_whole(rows // high, 4 * MOST_TILES)
    ]
    return sorted((each for each in space if each != default), key=lambda each: _distance(each, default))


def rows_space(columns: int, tasks: Sequence[int], default: RowsChoice) -> list[RowsChoice]:
    """Every other choice for a kernel of rows of ``columns`` elements, next to the default first.

    ``tasks`` are numbers of rows beside the default's.
    """
    space = [
        RowsChoice(lanes, default.parallel, rows)
        for lanes in dict.fromkeys((default.lanes, 4, 8, 16, 32, 64))
        if columns % lanes == 0
        for rows in (0, *tasks)
    ]
    return sorted((each for each in space if each != default), key=lambda each: _distance(each, default))


def other_threads(default: AnyChoice, size: int, threshold: int) -> list[AnyChoice]:
    """``default`` with threads where it has none, or without; none for a ``size`` far from the ``threshold`` of both.

    ``default.parallel`` is whether ``size`` reaches ``threshold``: what waking a thread costs is another on each board.
    """
    near = threshold <= size * NEAR and size <= threshold * NEAR
    return [replace(default, parallel=not default.parallel)] if near else []


def _powers_and_whole(extent: int, most: int) -> list[int]:
    """Divisors of ``extent`` up to ``most`` that are powers of two or three times one, and the greatest of all."""
    round_numbers = {factor << power for factor in (1, 3) for power in range(most.bit_length())}
    divisors = [d for d in range(1, min(extent, most) + 1) if extent % d == 0]
    return [d for d in divisors if d in round_numbers or d == divisors[-1]]


def _distance(choice: Choice, default: Choice) -> tuple[float, str]:
    one, other = asdict(choice), asdict(default)
    return sum(_steps(one[name], other[name]) for name in one if name != "parallel"), str(choice)


def _steps(one: int, other: int) -> float:
    """Doublings between two numbers; from 0, which is whatever the default has, one."""
    return abs(log2(one / other)) if one and other else float(one != other)
