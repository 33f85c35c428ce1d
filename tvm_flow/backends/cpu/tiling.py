"""The choices and the parts that every tiled product has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.graph.types import Block, Loop, Schedule

MOST_TILES = 16
"""A block of weights is read by so many tiles of rows while it is in the cache."""


class Tiling(Protocol):
    """How the rows of a product are divided."""

    def split(self, schedule: Schedule, rows: Loop, m: int, isa: Isa) -> tuple[Loop, Loop, Loop]:
        """Loops (groups of tiles, tiles of a group, rows of a tile) that the loop ``rows`` over ``m`` becomes."""
        ...


class DefaultTiling:
    """The most rows that divide M and fit the register file, and the most tiles up to `MOST_TILES`."""

    def split(self, schedule: Schedule, rows: Loop, m: int, isa: Isa) -> tuple[Loop, Loop, Loop]:
        """See `Tiling`."""
        inner = rows_of_a_tile(m, isa)[-1]
        tiles = max(t for t in range(1, MOST_TILES + 1) if m // inner % t == 0)
        groups, tile, row = schedule.split(rows, [None, tiles, inner])
        return groups, tile, row


class SampledTiling:
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


def rows_of_a_tile(m: int, isa: Isa) -> list[int]:
    """Numbers of rows that divide ``m`` and fit the registers of ``isa``, ascending."""
    step = 2 if isa.paired else 1
    return [rows for rows in range(step, max(isa.rows, step) + 1, step) if m % rows == 0]


@dataclass(frozen=True)
class Stages:
    """Blocks of a product: ``accumulate`` adds up, ``rearrange`` puts sums in order of rows, ``store`` writes out,
    ``widen`` makes int16 of rows before.

    ``unrolled`` leaves no loop over the rows of a tile when it is stored; ``scalar`` no vectors either.
    """

    accumulate: Block
    store: Block
    rearrange: Block | None = None
    widen: Block | None = None
    unrolled: bool = False
    scalar: bool = False
