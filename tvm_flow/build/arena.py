"""Offsets for tensors that share one arena: two may overlap only when they are never needed at the same time.

Greedy by size (Pisarchyk and Lee, arXiv 2001.03288): largest tensor first, each at the lowest offset where it meets no
placed tensor with an overlapping lifetime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[str, int] = {}
    order = sorted(lifetimes, key=lambda name: (-lifetimes[name].size, lifetimes[name].first, name))
    for name in order:
        lifetime = lifetimes[name]
        offset = 0
        for start, end, other in placed:
            if lifetime.meets(other) and offset < end and start < offset + _aligned(lifetime.size):
                offset = end
        placed.append((offset, offset + _aligned(lifetime.size), lifetime))
        placed.sort(key=lambda entry: entry[:2])
        offsets[name] = offset
    return offsets, max((end for _, end, _ in placed), default=0)


def place_apart(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Offsets in bytes (multiples of `ALIGNMENT`) of tensors all needed at once, and the size of their space."""
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += _aligned(size)
    return offsets, end


def liveness_bound(lifetimes: Mapping[str, Lifetime]) -> int:
    """The most bytes needed during one call: no plan can do with less."""
    calls = range(max((t.last for t in lifetimes.values()), default=-1) + 1)
    return max((sum(_aligned(t.size) for t in lifetimes.values() if t.first <= c <= t.last) for c in calls), default=0)


def _aligned(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
