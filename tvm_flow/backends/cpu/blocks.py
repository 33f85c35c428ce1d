"""What the schedules of rows, attention and convolutions ask of a block, and how they split its sums."""

from __future__ import annotations

from tvm_flow.graph.types import Block, Schedule

LANES = (16, 8, 4, 2)
"""Widths of vectors, widest first; LLVM cuts them to the target's."""


def lanes_of(extent: int) -> int:
    """The widest vector that divides ``extent``; 1 when none does."""
    return next((lanes for lanes in LANES if extent % lanes == 0), 1)


def is_reduction(schedule: Schedule, block: Block) -> bool:
    """True when ``block`` adds up, or takes a maximum, along a loop."""
    return any(int(v.iter_type) == 2 for v in schedule.get(block).iter_vars)


def written_shape(schedule: Schedule, block: Block) -> list[int]:
    """Shape of the buffer that ``block`` writes."""
    return [int(extent) for extent in schedule.get(block).writes[0].source.shape]


def split_lanes(extent: int) -> int:
    """Partial results that `split_sum` makes of ``extent`` elements; 1 where they are left whole."""
    lanes = lanes_of(extent)
    return lanes if 4 <= lanes < extent else 1


def split_sum(schedule: Schedule, block: Block) -> None:
    """One partial result per lane, combined at the end of the row; short rows are left whole."""
    *spatial, last = schedule.get_loops(block)
    if (lanes := split_lanes(int(schedule.get(last).extent))) > 1:
        _, inner = schedule.split(last, [None, lanes])
        schedule.rfactor(inner, len(spatial))
