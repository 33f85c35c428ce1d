"""All elements of a row combined: several vectors of partial results, then one, then halves of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.statements import allocated, loop, store, vector
from tvm_flow.graph.types import Expr

PARTS = 4
"""Vectors of partial maxima, and sums, of a row: a single one would wait for its own last addition."""


@dataclass(frozen=True)
class Fold:
    """``vectors`` of ``lanes`` each, combined to one ``dtype``, ``parts`` of them side by side."""

    vectors: int
    lanes: int
    dtype: str = "float32"
    parts: int = PARTS

    def of(self, combine: Callable[[Expr, Expr], Expr], initial: float, read: Callable[[Expr], Expr]) -> Expr:
        """All that ``read`` gives of the places of the row, from ``initial`` on."""
        parts = min(self.parts, self.vectors)
        partial = allocated(parts * self.lanes, self.dtype)

        def take(part: int, value: Callable[[Expr], Expr], first: Expr | int) -> None:
            with vector(self.lanes) as lane:
                place = part * self.lanes + lane
                store(partial, place, combine(partial[place], value(first + lane)))

        with loop(parts) as turn, vector(self.lanes) as lane:
            store(partial, turn * self.lanes + lane, tirx.const(initial, self.dtype))
        with loop(self.vectors // parts) as turn:
            for part in range(parts):
                take(part, read, (turn * parts + part) * self.lanes)
        for rest in range(self.vectors // parts * parts, self.vectors):
            take(0, read, rest * self.lanes)
        for part in range(1, parts):
            take(0, lambda place: partial[place], part * self.lanes)
        found = [partial[lane] for lane in range(self.lanes)]
        while len(found) > 1:
            found = [combine(a, b) for a, b in zip(found[::2], found[1::2], strict=True)]
        return T.bind(found[0])
