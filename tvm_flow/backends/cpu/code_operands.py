"""How `tvm_flow.backends.cpu.code_streaming` reads Q, K and V of one head into units of codes.

A code is made where it is packed, by what a kernel before would do; see `tvm_flow.backends.cpu.made_rows` for rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.attention_operands import Operands
from tvm_flow.backends.cpu.code_dots import CodeDot
from tvm_flow.backends.cpu.code_tiles import Columns
from tvm_flow.backends.cpu.made_rows import Row, vectors_over
from tvm_flow.backends.cpu.moved import Step
from tvm_flow.backends.cpu.operand_rows import Read
from tvm_flow.backends.cpu.statements import allocated, i32, i64, loop, store, vector
from tvm_flow.graph.types import Buffer, Expr

Place = Callable[[Expr], tuple[Expr, Expr]]
"""Where a channel's row and column are in a view."""


@dataclass(frozen=True)
class CodeOperands:
    """``operands`` as codes, in units of ``dot``."""

    operands: Operands
    dot: CodeDot

    def pack_rows(self, packed: Buffer, read: Read, start: Expr, rows: int) -> None:
        """[row, D] of Q from row ``start`` on, with the bias, D filled up to whole units."""
        depth, width = read.view.shape[-1], self._filled(read.view.shape[-1])
        with loop(rows) as row:
            self._make_row(packed, row * width, read, (depth, lambda d: (start + row, d)), self.dot.bias)

    def pack_keys(self, packed: Buffer, read: Read, columns: Columns) -> None:
        """Units [tile, D, key] of K [.., D, S]."""
        depth = read.view.shape[-2]
        if read.view.strides[-1] == 1 and not read.by_row:
            self._pack(packed, columns, depth, lambda d, key: self._code(read, d, key))
            return
        row = allocated(self._filled(depth), self.dot.code)
        for part in columns.parts:
            width = part.vectors * columns.lanes
            with loop(part.tiles) as tile, loop(width) as column:
                first = T.bind(part.first + tile * width)
                key = T.bind(first + column)
                with T.If(key < columns.extent), T.Then():
                    self._make_row(row, i64(0), read, (depth, partial(_of_key, key)))
                with loop(columns.depth) as u:
                    unit = self.dot.read(row, u * self.dot.depth)
                    to = (first * columns.depth + u * width) + column
                    store(packed, to, tirx.Select(key < columns.extent, unit, tirx.const(0, self.dot.unit)))

    def pack_values(self, packed: Buffer, read: Read, columns: Columns) -> None:
        """Units [tile, S, channel] of V [.., S, E]."""
        self._pack(packed, columns, read.view.shape[-2], lambda key, channel: self._code(read, key, channel))

    def _pack(self, packed: Buffer, columns: Columns, depth: int, code: Callable[[Expr, Expr], Expr]) -> None:
        """Units [tile, depth, column] of the ``code`` at a place along the sum, and a column."""
        whole, rest = divmod(depth, self.dot.depth)

        def unit(u: Expr, count: int, column: Expr) -> Expr:
            codes = [code(u * self.dot.depth + i, column) if i < count else i32(0) for i in range(self.dot.depth)]
            return self.dot.joined(codes)

        with loop(whole) as u:
            self._pack_unit(packed, columns, u, partial(unit, u, self.dot.depth))
        if rest:
            self._pack_unit(packed, columns, i64(whole), partial(unit, i64(whole), rest))

    def _pack_unit(self, packed: Buffer, columns: Columns, u: Expr, unit: Callable[[Expr], Expr]) -> None:
        """What ``unit`` gives of each column, as units ``u`` along the sum."""
        for part in columns.parts:
            width = part.vectors * columns.lanes
            with loop(part.tiles) as tile, loop(part.vectors) as number:
                start = T.bind(part.first + tile * width)
                first = T.bind(start + number * columns.lanes)
                to = T.bind(start * columns.depth + u * width + number * columns.lanes)
                self._copy(packed, to, (first, columns.extent), unit)

    def _copy(self, packed: Buffer, to: Expr, span: tuple[Expr, int], unit: Callable[[Expr], Expr]) -> None:
        """A vector of units, of columns from the first of ``span`` on; zeros from the last on."""
        lanes, (first, end) = self.dot.lanes, span
        if end % lanes == 0:
            with vector(lanes) as lane:
                store(packed, to + lane, unit(first + lane))
            return
        with T.If(end - first >= lanes):
            with T.Then(), vector(lanes) as lane:
                store(packed, to + lane, unit(first + lane))
            with T.Else(), loop(lanes) as lane:
                here = tirx.if_then_else(first + lane < end, unit(first + lane), tirx.const(0, self.dot.unit))
                store(packed, to + lane, here)

    def _filled(self, depth: int) -> int:
        """``depth`` codes in whole units."""
        return -(-depth // self.dot.depth) * self.dot.depth

    def _make_row(self, packed: Buffer, to: Expr, read: Read, channels: tuple[int, Place], bias: int = 0) -> None:
        """The codes of a row and ``bias``, of so many channels, which lie where the second says, at ``to``."""
        depth, at = channels
        if read.by_row:
            made = allocated(depth)
            Row(made, i64(0), depth, self.dot.lanes).make(
                read.before_codes,
                lambda d: self.operands.tensors[read.source][self.operands.place(read.view, *at(d))],
                lambda step, value, d: self.operands.after([step], value, *at(d)),
            )
        for extent, first, lanes in vectors_over(depth, self.dot.lanes):
            with loop(extent) as turn, vector(lanes) as lane:
                d = first + turn * lanes + lane
                code = self._rounded(read, made[d]) if read.by_row else self._code(read, *at(d))
                store(packed, to + d, (code + bias if bias else code).astype(self.dot.code))
        for d in range(depth, self._filled(depth)):
            store(packed, to + d, tirx.const(0, self.dot.code))

    def _code(self, read: Read, row: Expr, column: Expr) -> Expr:
        """int32, of an element that is made of itself alone."""
        value = self.operands.tensors[read.source][self.operands.place(read.view, row, column)]
        if not read.steps:
            return value.astype("int32")
        steps = (step for step in read.steps if isinstance(step, Step))
        return self._rounded(read, self.operands.after(steps, value, row, column))

    def _rounded(self, read: Read, value: Expr) -> Expr:
        """The code of ``value`` by the last steps of ``read``; what is cut to int8 is the same in int32."""
        return self.operands.after(read.to_codes[:-1], value, i64(0), i64(0)).astype("int32")


def _of_key(key: Expr, d: Expr) -> tuple[Expr, Expr]:
    """Where channel ``d`` of a key is in K, transposed."""
    return d, key
