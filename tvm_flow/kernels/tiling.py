"""The choices and the parts that every tiled product has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm_flow.kernels.isa import Isa

MOST_TILES = 16
"""A block of weights is read by so many tiles of rows while it is in the cache."""


@dataclass(frozen=True)
class Tiling:
    """``rows`` of a register tile and ``tiles`` that share a block of weights; numbers, or variables of a search."""

    rows: Any
    tiles: Any

    @staticmethod
    def default(m: int, isa: Isa) -> Tiling:
        """The largest that divide ``m`` rows and fit the register file of ``isa``."""
        step = 2 if isa.paired else 1
        rows = max(r for r in range(step, max(isa.rows, step) + 1, step) if m % r == 0)
        return Tiling(rows, max(t for t in range(1, MOST_TILES + 1) if m // rows % t == 0))


@dataclass(frozen=True)
class Stages:
    """Blocks of a product: ``accumulate`` adds up, ``rearrange`` puts sums in order of rows, ``store`` writes out.

    ``unrolled`` leaves no loop over the rows of a tile when it is stored; ``scalar`` no vectors either.
    """

    accumulate: Any
    store: Any
    rearrange: Any = None
    unrolled: bool = False
    scalar: bool = False
