"""How `tvm_flow.backends.cpu.streaming` reads Q, K and V of one head into its tiles, and says what is written.

An element is read where its view has it, and what is done to it is done then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.attention_tiles import Layout, Span
from tvm_flow.backends.cpu.made_rows import Row
from tvm_flow.backends.cpu.moved import Step, ToCodes
from tvm_flow.backends.cpu.operand_rows import Read
from tvm_flow.backends.cpu.statements import allocated, f32, i64, loop, store, vector
from tvm_flow.backends.cpu.turning import turned
from tvm_flow.backends.cpu.views import View
from tvm_flow.graph.types import Buffer, Expr, Var

_OPERATORS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "relax.add": lambda a, b: a + b,
    "relax.subtract": lambda a, b: a - b,
    "relax.multiply": lambda a, b: a * b,
    "relax.divide": lambda a, b: a / b,
}


SIDES = (16, 8, 4)
"""Of squares that `tvm_flow.backends.cpu.turning` turns; channels that are no multiple of one go one by one."""


@dataclass(frozen=True)
class Operands:
    """The ``tensors`` of a kernel, each as one dimension, for the attention at ``head``."""

    tensors: Mapping[Var, Buffer]
    head: tuple[Expr, ...]
    lanes: int

    def place(self, view: View, row: Expr, column: Expr) -> Expr:
        """Of an element of this head."""
        found = i64(view.offset)
        for index, stride in zip((*self.head, row, column), view.strides, strict=True):
            found = found + index * i64(stride) if stride else found
        return found

    def element(self, read: Read, row: Expr, column: Expr) -> Expr:
        """An element of Q, K or V that is made of itself alone."""
        value = self.tensors[read.source][self.place(read.view, row, column)]
        return self.after((step for step in read.steps if isinstance(step, Step)), value, row, column)

    def after(self, steps: Iterable[Step | ToCodes], value: Expr, row: Expr, column: Expr) -> Expr:
        """What ``steps`` make of the ``value`` at ``row`` and ``column``, as kernels of their own would."""
        for step in steps:
            value = _codes(step, value) if isinstance(step, ToCodes) else self._stepped(step, value, row, column)
        return value

    def _stepped(self, step: Step, value: Expr, row: Expr, column: Expr) -> Expr:
        if step.view is None:
            other = f32(step.operand)
        else:
            other = self.tensors[step.operand][self.place(step.view, row, column)]
        return _OPERATORS[step.operator](*((other, value) if step.first else (value, other)))

    def pack_rows(self, packed: Buffer, read: Read, start: Expr, rows: int) -> None:
        """[row, D] of Q from row ``start`` on."""
        depth = read.view.shape[-1]
        with loop(rows) as row:
            self._make_row(Row(packed, row * depth, depth, self.lanes), read, lambda d: (start + row, d))

    def pack_keys(self, packed: Buffer, read: Read, layout: Layout, start: Expr, there: Expr) -> None:
        """[tile of keys, D, key] of K [.., D, S]; ``there`` are the block's keys, ``start`` is the first."""
        span, depth = layout.keys, read.view.shape[-2]
        if read.view.strides[-1] != 1 or read.by_row:
            self._turn_keys(packed, read, span, start, there)
            return
        with loop(span.tiles) as tile, loop(depth) as d, loop(span.vectors) as part:
            key = T.bind(tile * span.columns + part * span.lanes)
            to = T.bind((tile * depth + d) * span.columns + part * span.lanes)
            self._copy(packed, to, there - key, lambda lane: self.element(read, d, start + key + lane))

    def _turn_keys(self, packed: Buffer, read: Read, span: Span, start: Expr, there: Expr) -> None:
        """The same where a key's channels, and not a channel's keys, lie side by side: whole squares in registers."""
        depth = read.view.shape[-2]
        side = next((side for side in SIDES if side <= span.lanes and depth % side == 0), 1)
        rows = allocated(side * depth) if read.by_row else None
        with loop(span.tiles) as tile, loop(span.columns // side) as square:
            key = T.bind(tile * span.columns + square * side)
            to = T.bind(tile * depth * span.columns + square * side)
            if rows is not None:
                self._made_rows(rows, read, start + key, tirx.min(there - key, i64(side)))

            def element(row: Expr, d: Expr) -> Expr:
                return self.element(read, d, start + key + row) if rows is None else rows[row * depth + d]

            def one_by_one() -> None:
                with loop(side) as row, loop(depth) as d:
                    value = tirx.if_then_else(key + row < there, element(row, d), f32(0.0))
                    store(packed, to + d * span.columns + row, value)

            if side == 1:
                one_by_one()
                return
            with T.If(there - key >= side):
                with T.Then(), loop(depth // side) as turn:
                    d = T.bind(turn * side)
                    for number, column in enumerate(_square(side, lambda row, lane: element(row, d + lane))):
                        store(packed, tirx.Ramp(to + (d + number) * span.columns, i64(1), side), column)
                with T.Else():
                    one_by_one()

    def _made_rows(self, rows: Buffer, read: Read, first: Expr, count: Expr) -> None:
        """[key, D] of K's keys from ``first`` on."""
        depth = read.view.shape[-2]
        with loop(tirx.max(count, i64(0))) as row:
            self._make_row(Row(rows, row * depth, depth, self.lanes), read, lambda d: (d, first + row))

    def _make_row(self, row: Row, read: Read, at: Callable[[Expr], tuple[Expr, Expr]]) -> None:
        """What ``read`` says of the elements that lie ``at`` a channel's place in its view."""
        row.make(
            read.before_codes,
            lambda d: self.tensors[read.source][self.place(read.view, *at(d))],
            lambda step, value, d: self._stepped(step, value, *at(d)),
        )

    def pack_values(self, packed: Buffer, read: Read, layout: Layout, start: Expr, there: Expr) -> None:
        """[tile of channels, key, channel] of V [.., S, E]."""
        span, block = layout.channels, layout.keys.extent
        with loop(span.tiles) as tile, loop(block) as key, loop(span.vectors) as part:
            channel = T.bind(tile * span.columns + part * span.lanes)
            to = T.bind((tile * block + key) * span.columns + part * span.lanes)
            left = tirx.Select(key < there, span.extent - channel, i64(0))
            self._copy(packed, to, left, lambda lane: self.element(read, start + key, channel + lane))

    def _copy(self, packed: Buffer, to: Expr, left: Expr, element: Callable[[Expr], Expr]) -> None:
        """A vector of which the first ``left`` lanes exist; zeros for the others."""
        with T.If(left >= self.lanes):
            with T.Then(), vector(self.lanes) as lane:
                store(packed, to + lane, element(lane))
            with T.Else(), loop(self.lanes) as lane:
                store(packed, to + lane, tirx.if_then_else(lane < left, element(lane), f32(0.0)))


def _square(side: int, element: Callable[[Expr, Expr], Expr]) -> list[Expr]:
    """The columns of a square of which ``element`` reads a row's lane."""
    rows = allocated(side * side)
    for row in range(side):
        with vector(side) as lane:
            store(rows, row * side + lane, element(i64(row), lane))
    return turned([T.bind(rows[tirx.Ramp(i64(row * side), i64(1), side)]) for row in range(side)])


def _codes(step: ToCodes, value: Expr) -> Expr:
    """As TVM legalizes the operator."""
    if step.operator == "relax.round":
        return tirx.nearbyint(value)
    if step.operator == "relax.clip":
        low, high = (f32(float(getattr(limit, "value", limit))) for limit in step.call.args[1:3])
        return tirx.max(tirx.min(value, high), low)
    return value.astype(step.call.ty.dtype)
