"""Offsets for tensors that share one arena: two may overlap only when they are never needed at the same time.

Greedy by size (Pisarchyk and Lee, arXiv 2001.03288): largest tensor first, each at the lowest offset where it meets no
placed tensor with an overlapping lifetime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A tensor of ``size`` bytes, needed from call ``first`` to call ``last``, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """True when both are needed during some call."""
        return self.first <= other.last and other.first <= self.last


def plan_arena(lifetimes: Mapping[str, Lifetime]) -> tuple[dict[str, int], int]:
    """Offsets in bytes (multiples of `ALIGNMENT`) by name, and the size of the arena."""
    offsets: dict[str, int] = {}
    order = sorted(lifetimes, key=lambda name: (-lifetimes[name].size, lifetimes[name].first, name))
    # Of the tensors placed so far. A full-size step has thousands, of which few meet: arrays find them.
    start, end, first, last = (np.zeros(len(order), np.int64) for _ in range(4))
    for count, name in enumerate(order):
        lifetime = lifetimes[name]
        offset, size = 0, _aligned(lifetime.size)
        meeting = np.flatnonzero((first[:count] <= lifetime.last) & (last[:count] >= lifetime.first))
        for index in meeting[np.lexsort((end[meeting], start[meeting]))]:
            if offset < end[index] and start[index] < offset + size:
                offset = int(end[index])
        start[count], end[count], first[count], last[count] = offset, offset + size, lifetime.first, lifetime.last
        offsets[name] = offset
    return offsets, int(end.max(initial=0))


def place_apart(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Offsets in bytes (multiples of `ALIGNMENT`) of tensors all needed at once, and the size of their space."""
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += _aligned(size)
    return offsets, end


def liveness_bound(lifetimes: Mapping[str, Lifetime]) -> int:
    """The most bytes needed during one call: no plan can do with less."""
    change = np.zeros(max((t.last for t in lifetimes.values()), default=-1) + 2, np.int64)
    for lifetime in lifetimes.values():
        change[lifetime.first] += _aligned(lifetime.size)
        change[lifetime.last + 1] -= _aligned(lifetime.size)
    return int(np.cumsum(change).max(initial=0))


def _aligned(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
