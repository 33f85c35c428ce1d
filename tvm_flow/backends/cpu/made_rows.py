"""A row of Q or K, its channels in a head, as the kernels that would be before an attention make it: read once.

Every operation and its order are those of `tvm_flow.backends.cpu.rows`, so that the bits are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.blocks import split_lanes
from tvm_flow.backends.cpu.moved import Step
from tvm_flow.backends.cpu.operand_rows import Rotated, RowStep
from tvm_flow.backends.cpu.statements import allocated, f32, i64, loop, store, vector
from tvm_flow.graph.types import Buffer, Expr

Channel = Callable[[Expr], Expr]
"""The value of a channel."""
Stepped = Callable[[Step, Expr, Expr], Expr]
"""What a step makes of the value of a channel."""


@dataclass(frozen=True)
class Row:
    """``depth`` channels, at ``to`` of ``packed``, in vectors of ``lanes``."""

    packed: Buffer
    to: Expr
    depth: int
    lanes: int

    def make(self, steps: Iterable[Step | RowStep], source: Channel, stepped: Stepped) -> None:
        """What ``steps`` make of ``source``; between two of rows, the row is kept."""
        value: Channel | None = source
        for step in steps:
            if isinstance(step, Step):
                value = _after(step, value or self._there, stepped)
                continue
            if value is not None:
                self._keep(value)
            if isinstance(step, Rotated):
                self._rotate(step, stepped)
                value = None
            else:
                value = self._over(T.bind(tirx.sqrt(stepped(step.eps, self._squares() / f32(step.count), i64(0)))))
        if value is not None:
            self._keep(value)

    def _there(self, d: Expr) -> Expr:
        return self.packed[self.to + d]

    def _over(self, root: Expr) -> Channel:
        return lambda d: self._there(d) / root

    def _keep(self, value: Channel) -> None:
        for extent, first, lanes in vectors_over(self.depth, self.lanes):
            with loop(extent) as turn, vector(lanes) as lane:
                d = first + turn * lanes + lane
                store(self.packed, self.to + d, value(d))

    def _squares(self) -> Expr:
        """The sum of all squares."""
        lanes = split_lanes(self.depth)
        sums = allocated(lanes)
        with vector(lanes) as lane:
            store(sums, lane, f32(0.0))
        with loop(self.depth // lanes) as turn, vector(lanes) as lane:
            value = self._there(turn * lanes + lane)
            store(sums, lane, sums[lane] + value * value)
        total = sums[0]
        for number in range(1, lanes):
            total = total + sums[number]
        return total

    def _rotate(self, step: Rotated, stepped: Stepped) -> None:
        """Both halves a vector at a time: each is read before the other is written."""
        half = self.depth // 2
        for extent, first, lanes in vectors_over(half, self.lanes):
            with loop(extent) as turn:
                kept, start = allocated(2 * lanes), T.bind(first + turn * lanes)
                for side in range(2):
                    with vector(lanes) as lane:
                        store(kept, side * lanes + lane, self._there(side * half + start + lane))
                for side in range(2):
                    with vector(lanes) as lane:
                        d = side * half + start + lane
                        own, other = kept[side * lanes + lane], kept[(1 - side) * lanes + lane]
                        store(self.packed, self.to + d, stepped(step.cos, own, d) + stepped(step.sin, other, d))


def _after(step: Step, before: Channel, stepped: Stepped) -> Channel:
    return lambda d: stepped(step, before(d), d)


def vectors_over(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """``extent`` elements as loops: how many vectors, where they start, and of how many lanes."""
    whole = extent // lanes
    return [(whole, 0, lanes), (extent - whole * lanes, whole * lanes, 1)][: 2 if extent % lanes else 1]
