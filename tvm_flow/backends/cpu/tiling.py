"""The choices and the parts that every tiled product has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.graph.types import Block, Loop, Schedule

MOST_TILES = 16
"""A block of weights is read by so many tiles of rows while it is in the cache."""


PARALLEL_MACS = 1 << 20
"""Products below this many multiplications run on one thread: waking another costs more."""

TASKS = 16
"""Products whose rows are laid out anew have so many tasks at least, where there are columns enough."""

PAIRED_BLOCKS = 4
"""Rows are laid out in twos for so many blocks of columns at least: 0.3 instructions a code, spread over 64 products of
0.046 each where a block has 16 columns."""

REARRANGED_LANES = 8
"""Vectors of an epilogue whose sums were put in order first, where a tile has as many columns."""


class Tiling(Protocol):
    """How the rows of a product are divided, in which order tiles come, and whether they run on several threads."""

    def split(self, schedule: Schedule, rows: Loop, m: int, isa: Isa) -> tuple[Loop, Loop, Loop]:
        """Loops (groups of tiles, tiles of a group, rows of a tile) that the loop ``rows`` over ``m`` becomes."""
        ...

    def order(self, groups: int, blocks: int, macs: int, isa: Isa, /) -> Order:
        """Of ``groups`` of tiles and ``blocks`` of columns, ``macs`` multiplications in all."""
        ...


def start_from_zero(schedule: Schedule, block: Block, reduction: Loop) -> None:
    """Zero the sums of ``block`` before its loop ``reduction``, whose tile has two loops and a vector innermost."""
    *outer, vector = schedule.get_loops(schedule.decompose_reduction(block, reduction))
    schedule.vectorize(vector)
    for loop in outer[-2:]:
        schedule.unroll(loop)


@dataclass(frozen=True)
class Order:
    """How many blocks of columns a tile of rows meets one after the other, into how many parts the blocks are cut where
    each part lays its rows out anew, whether groups and parts run on several threads, and in vectors of how many lanes
    a tile is written out (0: as wide as the instruction set's kernels have them)."""

    neighbours: int
    parts: int
    parallel: bool
    lanes: int = 0


def default_order(groups: int, blocks: int, macs: int, isa: Isa) -> Order:
    """A block of columns after the other, parts enough for the cores, threads for what is large."""
    wanted = min(TASKS, max(1, blocks // (PAIRED_BLOCKS if isa.paired else 1)))
    parts = next(parts for parts in range(1, blocks + 1) if blocks % parts == 0 and parts * groups >= wanted)
    return Order(1, parts, macs >= PARALLEL_MACS)


class _DefaultOrder:
    def order(self, groups: int, blocks: int, macs: int, isa: Isa, /) -> Order:
        """See `Tiling`."""
        return default_order(groups, blocks, macs, isa)


class DefaultTiling(_DefaultOrder):
    """The most rows that divide M and fit the register file, and the most tiles up to `MOST_TILES`."""

    def split(self, schedule: Schedule, rows: Loop, m: int, isa: Isa) -> tuple[Loop, Loop, Loop]:
        """See `Tiling`."""
        inner = rows_of_a_tile(m, isa)[-1]
        groups, tile, row = schedule.split(rows, [None, most_tiles(m // inner), inner])
        return groups, tile, row


class SampledTiling(_DefaultOrder):
    """Every division of the rows that the register file allows, for a search to choose from."""

    def split(self, schedule: Schedule, rows: Loop, m: int, isa: Isa) -> tuple[Loop, Loop, Loop]:
        """See `Tiling`; two random variables go into the schedule's trace."""
        choices = rows_of_a_tile(m, isa)
        inner = schedule.sample_categorical(choices, [1.0 / len(choices)] * len(choices))
        outer, row = schedule.split(rows, [None, inner])
        groups, tile = schedule.split(
            outer, schedule.sample_perfect_tile(outer, n=2, max_innermost_factor=4 * MOST_TILES)
        )
        return groups, tile, row


def most_tiles(tiles: int, most: int = MOST_TILES) -> int:
    """The most of ``tiles`` up to ``most`` that divide them."""
    return max(t for t in range(1, most + 1) if tiles % t == 0)


def rows_of_a_tile(m: int, isa: Isa) -> list[int]:
    """Numbers of rows that divide ``m`` and fit the registers of ``isa``, ascending."""
    step = 2 if isa.paired else 1
    return [rows for rows in range(step, max(isa.rows, step) + 1, step) if m % rows == 0]


@dataclass(frozen=True)
class Stages:
    """Blocks of a product: ``accumulate`` adds up, ``rearrange`` puts sums in order of rows, ``store`` writes out,
    ``prepare`` lays rows out before.

    ``unrolled`` leaves no loop over the rows of a tile when it is stored; ``scalar`` no vectors either.
    """

    accumulate: Block
    store: Block
    rearrange: Block | None = None
    prepare: Block | None = None
    unrolled: bool = False
    scalar: bool = False
