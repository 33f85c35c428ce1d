"""Steps that share command streams: contiguous clusters, in each of which a linear's input has its steps' widest scale.

A stream has its scales baked in, and steps of a recipe with ranges of their own have scales of their own. In a cluster
they take the largest of them, ``<layer>.scale`` by layer and branch: nothing is cut off that was not before, and the
noise of rounding, scale^2 / 12, grows by (largest / own)^2. Its mean over layers, branches and steps is what a cluster
costs, by the ranges alone; dynamic programming has the clusters of the least sum. What it costs a video, `evaluate`
measures with a recipe of so many ``groups``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_flow.compile.step_members import SCALE, Member, Place
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array, same_bits
from tvm_flow.graph.program import KernelCall
from tvm_flow.quantize.grouping import Groups, contiguous_groups

_LISTED = 10
"""Numbers of clusters whose bytes and noise are said, beside a cluster for each step."""


@dataclass(frozen=True, eq=False)
class StepScales:
    """``values`` [steps, layers and branches] of the inputs ``names`` with branches; NaN where a step has none."""

    names: tuple[tuple[str, int], ...]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, members: Sequence[Member], names: frozenset[str]) -> StepScales:
        """Those of ``members``, scales called ``names``."""
        columns = tuple((name, branch) for name in sorted(names) for branch in sorted({m.branch for m in members}))
        values = np.full((1 + max(member.position for member in members), len(columns)), np.nan)
        for member in members:
            for column, (name, branch) in enumerate(columns):
                if branch == member.branch and name in member.given:
                    values[member.position, column] = float(member.given[name])
        return cls(columns, values)

    @cached_property
    def cost(self) -> NDArray[np.float64]:
        """[T, T]: sum of (largest / own)^2 of the steps from a first to a last, as one cluster."""
        steps = len(self.values)
        own = np.nan_to_num(self.values, nan=1.0) ** -2.0 * ~np.isnan(self.values)
        cost = np.zeros((steps, steps))
        for first in range(steps):
            widest = np.fmax.accumulate(np.nan_to_num(self.values[first:]), axis=0)
            cost[first, first:] = (widest**2 * own[first:].cumsum(axis=0)).sum(axis=1)
        return cost

    def clusters(self, count: int) -> Groups:
        """int64 [T]: the cluster of each step, ``count`` of them, at the least cost."""
        return contiguous_groups(self.cost, count)

    def noise_db(self, clusters: Groups) -> float:
        """By how much more noise rounding leaves in the inputs' codes than scales of each step would."""
        ends = [np.flatnonzero(clusters == each)[[0, -1]] for each in range(int(clusters.max()) + 1)]
        total = sum(float(self.cost[first, last]) for first, last in ends)
        own = int(np.count_nonzero(~np.isnan(self.values)))
        return 10 * math.log10(total / own) if own else 0.0

    def joined(self, member: Member, clusters: Groups) -> Mapping[str, Array]:
        """What ``member`` is given with the scales of its cluster."""
        rows = self.values[clusters == clusters[member.position]]
        widest = {
            name: np.nanmax(rows[:, column]).astype(np.float32).reshape(member.given[name].shape)
            for column, (name, branch) in enumerate(self.names)
            if branch == member.branch and name in member.given
        }
        return {**member.given, **widest}


@dataclass(frozen=True)
class ClusterChoice:
    """``count`` clusters of steps: bytes of their blobs, and how much more noise rounding leaves in inputs.

    ``bytes`` are those of as many blobs as are distinct, each as large as the one that was compiled for its call.
    """

    count: int
    bytes: int
    noise_db: float
    chosen: bool

    def __str__(self) -> str:
        words = f"{self.count} cluster{'s' if self.count > 1 else ''} of steps"
        here = " (this package)" if self.chosen else ""
        return f"{words}: about {self.bytes} bytes, rounding noise of inputs +{self.noise_db:.2f} dB{here}"


@dataclass(frozen=True, eq=False)
class Sharing:
    """Which calls of ``members`` have equal constants; ``inside`` are the kernels that are regions, by program's id."""

    members: Sequence[Member]
    inside: Mapping[int, frozenset[str]]

    @classmethod
    def of(cls, members: Sequence[Member], is_region: Callable[[Any], bool], folder: Path, recipe: str) -> Sharing:
        """Of the kernels that ``is_region`` takes; raises BuildError of ``folder`` and ``recipe`` without any."""
        programs = {id(member.program): member.program for member in members}
        inside = {key: frozenset(n for n, f in made.kernels.items() if is_region(f)) for key, made in programs.items()}
        if not any(inside.values()):
            raise BuildError(f"{folder}: expected linears of int8 codes, got none; quantize with {recipe}")
        return cls(members, inside)

    @cached_property
    def scales(self) -> StepScales:
        """Of the linears inside."""
        read = (member.read(call) for member in self.members for call in member.calls(self.inside))
        names = frozenset[str]().union(*read)
        return StepScales.of(self.members, frozenset(name for name in names if name.endswith(SCALE)))

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.scales.values)

    def clusters(self, count: int | None) -> Groups:
        """int64 [T]: ``count`` of them, for None one for each step; raises BuildError where nothing can be joined."""
        if count is None:
            return np.arange(self.steps)
        if not 1 <= count <= self.steps:
            raise BuildError(
                f"clusters: expected 1 to {self.steps}, the number of steps, got {count}; choose one of them, or name "
                "more steps"
            )
        if not self.scales.names:
            raise BuildError(
                "clusters: expected linears with scales of their own, which steps can share, got blocks in integers, "
                "which hold what time makes of each step; leave clusters out"
            )
        return self.scales.clusters(count)

    def joined(self, clusters: Groups) -> Iterator[Member]:
        """The members by the scales of their clusters."""
        for member in self.members:
            yield replace(member, given=self.scales.joined(member, clusters))

    def choices(self, chosen: Groups, sizes: Mapping[Place, int]) -> tuple[ClusterChoice, ...]:
        """What numbers of clusters cost, ``chosen`` among them; ``sizes`` of blobs as `blobs` has them."""
        if self.steps == 1 or not self.scales.names:
            return ()
        taken = int(chosen.max()) + 1
        found = []
        for count in sorted({*range(1, min(self.steps, _LISTED) + 1), taken, self.steps}):
            clusters = self.scales.clusters(count)
            size = sum(number * sizes[call] for call, number in self.blobs(clusters).items())
            found.append(ClusterChoice(count, size, self.scales.noise_db(clusters), count == taken))
        return tuple(found)

    def blobs(self, clusters: Groups) -> Counter[Place]:
        """How many each call needs."""
        found = set()
        for member in self.joined(clusters):
            for call, names in self._changing[id(member.program)]:
                found.add((member.place(call), tuple(member.given[name].tobytes() for name in names)))
        return Counter(place for place, _ in found)

    @cached_property
    def _changing(self) -> dict[int, list[tuple[KernelCall, list[str]]]]:
        """By the program's id its calls inside, and what they read that members have values of their own for."""
        first: dict[str, Array] = {}
        for member in self.members:
            first = {**member.given, **first}
        changing = {name for m in self.members for name, array in m.given.items() if not same_bits(array, first[name])}
        programs = {id(member.program): member for member in self.members}
        return {
            key: [(call, sorted(member.read(call) & changing)) for call in member.calls(self.inside)]
            for key, member in programs.items()
        }
