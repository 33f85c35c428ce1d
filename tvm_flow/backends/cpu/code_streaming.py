"""Attention of codes as one kernel: no more than the scores of a few rows exist at a time.

A task packs K and V of its head, and then, a group of rows after the other, does what
`tvm_flow.backends.cpu.code_attention` says, in its order: both products in integers, in tiles that stay in registers
(`tvm_flow.backends.cpu.code_dots`); all scores of a row before its weights, because a code of a weight is relative to
the largest of them and cannot be scaled anew as a float can. So the bits are those of kernels apart, but for the order
of sums of whole numbers, which are exact.

The largest score is NaN where one of them is, as it is elsewhere: see `tvm_flow.lower.extremes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.attention_operands import Operands
from tvm_flow.backends.cpu.code_attention import CodeAttention
from tvm_flow.backends.cpu.code_dots import CodeDot
from tvm_flow.backends.cpu.code_operands import CodeOperands
from tvm_flow.backends.cpu.code_tiles import CodeLayout, Columns
from tvm_flow.backends.cpu.folds import Fold
from tvm_flow.backends.cpu.statements import allocated, argument, f32, flat, i32, i64, indices, loop, store, vector
from tvm_flow.graph.lifted import dtype_of, shape_of
from tvm_flow.graph.types import Buffer, Expr, PrimFunc, Var
from tvm_flow.lower.exponential import exp_expression, falling_expression
from tvm_flow.lower.extremes import INFINITY, MAGNITUDE

LEAST, MOST = -128.0, 127.0


def code_streamed(name: str, attention: CodeAttention, layout: CodeLayout, dot: CodeDot) -> PrimFunc:
    """TIR function ``name`` of the attention's parameters and its output."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        given = [argument(p.name, shape_of(p), dtype_of(p)) for p in attention.parameters]
        out = flat(argument("out", attention.written.shape, attention.written.dtype))
        tensors = {p: flat(buffer) for p, buffer in zip(attention.parameters, given, strict=True)}
        tasks = math.prod(attention.batch) * attention.rows // layout.task
        with (T.parallel if layout.parallel else T.serial)(i64(0), i64(tasks // layout.tasks)) as turn:
            kernel = _Kernel(
                attention, layout, dot, tensors, out, _scratch(layout, dot, attention.correction is not None)
            )
            with loop(layout.tasks) as task:
                _Task(kernel, T.bind(turn * layout.tasks + task)).emit()
    return builder.get().with_attr("global_symbol", name)


@dataclass(frozen=True)
class _Scratch:
    """What a thread works on, reused by its tasks: units of K and V; of a group, codes, scores, and sums."""

    keys: Buffer
    values: Buffer
    queries: Buffer
    scores: Buffer
    weights: Buffer
    sums: Buffer
    total: Buffer
    key_sums: Buffer | None
    """What is too much in every score of a key, and below in every sum of a channel; None where nothing is."""
    value_sums: Buffer | None


@dataclass(frozen=True)
class _Rows:
    """A group's rows of ``codes``, ``width`` each, whose products are ``excess`` too much in a column."""

    codes: Buffer
    width: int
    excess: Buffer | None


@dataclass(frozen=True)
class _Kernel:
    """What all tasks of a thread share; ``tensors`` and ``out`` as one dimension each."""

    attention: CodeAttention
    layout: CodeLayout
    dot: CodeDot
    tensors: Mapping[Var, Buffer]
    out: Buffer
    scratch: _Scratch


def _scratch(layout: CodeLayout, dot: CodeDot, given: bool) -> _Scratch:
    group, keys, channels = layout.group, layout.keys, layout.channels
    return _Scratch(
        keys=allocated(keys.padded * keys.depth, dot.unit),
        values=allocated(channels.padded * channels.depth, dot.unit),
        queries=allocated(group * keys.depth * dot.depth, dot.code),
        scores=allocated(group * keys.padded),
        weights=allocated(group * layout.width(dot), dot.code),
        sums=allocated(group * channels.padded, "int32"),
        total=allocated(group),
        key_sums=allocated(keys.padded, "int32") if dot.bias else None,
        value_sums=None if dot.wide or (given and not dot.bias) else allocated(channels.padded, "int32"),
    )


class _Task:
    """The statements of one task; rows are of a group unless they are said to be of the head."""

    def __init__(self, kernel: _Kernel, task: Expr):
        attention, layout = self.attention, self.layout = kernel.attention, kernel.layout
        self.scratch, self.out, self.dot, self.lanes = kernel.scratch, kernel.out, kernel.dot, kernel.dot.lanes
        tasks = attention.rows // layout.task
        head = indices(tirx.floordiv(task, i64(tasks)), attention.batch)
        self.operands = Operands(kernel.tensors, head, self.lanes)
        self.codes = CodeOperands(self.operands, kernel.dot)
        self.first = T.bind(tirx.floormod(task, i64(tasks)) * layout.task)
        """Row of the head."""
        self.zero = T.bind(kernel.tensors[attention.coding.zero][0].astype("int32"))

    def emit(self) -> None:
        """K and V, then every group of rows."""
        lay, scratch = self.layout, self.scratch
        self.codes.pack_keys(scratch.keys, self.attention.k, lay.keys)
        self.codes.pack_values(scratch.values, self.attention.v, lay.channels)
        self._add_up(lay.keys, scratch.keys, i32(self.dot.bias), scratch.key_sums)
        zero = i32(0) if self.attention.correction else self.zero
        self._add_up(lay.channels, scratch.values, zero + self.dot.bias, scratch.value_sums)
        with loop(lay.task // lay.group) as group:
            self._group(T.bind(self.first + group * lay.group))

    def _group(self, first: Expr) -> None:
        """The rows of a group, which begins at the head's row ``first``."""
        lay, scratch = self.layout, self.scratch
        self.codes.pack_rows(scratch.queries, self.attention.q, first, lay.group)
        rows = _Rows(scratch.queries, lay.keys.depth * self.dot.depth, scratch.key_sums)
        self._product(lay.keys, rows, scratch.keys, scratch.scores)
        with loop(lay.group) as row:
            self._weigh(row, self._largest(first + row, row * lay.keys.padded))
        rows = _Rows(scratch.weights, lay.width(self.dot), scratch.value_sums)
        self._product(lay.channels, rows, scratch.values, scratch.sums)
        with loop(lay.group) as row:
            self._write(first, row)

    def _add_up(self, columns: Columns, packed: Buffer, factor: Expr, to: Buffer | None) -> None:
        """``factor`` times the sum of each of the columns ``packed``."""
        for part in columns.parts if to is not None else ():
            width = part.vectors * self.lanes
            with loop(part.tiles) as tile, loop(part.vectors) as number:
                start = T.bind(part.first + tile * width)
                sums = allocated(self.lanes, "int32")
                store(sums, self._at(0), tirx.Broadcast(i32(0), self.lanes))
                with loop(columns.depth) as u:
                    here = start * columns.depth + u * width + number * self.lanes
                    store(sums, self._at(0), self.dot.step(sums[self._at(0)], self.dot.ones, packed[self._at(here)]))
                scaled = sums[self._at(0)] * tirx.Broadcast(factor, self.lanes)
                store(to, self._at(start + number * self.lanes), scaled)

    def _product(self, columns: Columns, left: _Rows, packed: Buffer, to: Buffer) -> None:
        """A group's rows ``left`` times ``packed``, tile by tile, in registers."""
        rows, dot = self.layout.rows, self.dot
        for part in columns.parts:
            with loop(part.tiles) as tile, loop(self.layout.group // rows) as strip:
                first = T.bind(part.first + tile * (part.vectors * self.lanes))
                sums = allocated(rows * part.vectors * self.lanes, "int32")
                places = [
                    [self._at((r * part.vectors + v) * self.lanes) for v in range(part.vectors)] for r in range(rows)
                ]
                for place in (place for row in places for place in row):
                    store(sums, place, tirx.Broadcast(i32(0), self.lanes))
                with loop(columns.depth) as u:
                    here = T.bind(first * columns.depth + u * (part.vectors * self.lanes))
                    right = [T.bind(packed[self._at(here + v * self.lanes)]) for v in range(part.vectors)]
                    for r, row in enumerate(places):
                        unit = T.bind(dot.read(left.codes, (strip * rows + r) * left.width + u * dot.depth))
                        for place, column in zip(row, right, strict=True):
                            store(sums, place, dot.step(sums[place], unit, column))
                for r, row in enumerate(places):
                    for v, place in enumerate(row):
                        at = self._at((strip * rows + r) * columns.padded + first + v * self.lanes)
                        found = sums[place]
                        if left.excess is not None:
                            found = found - left.excess[self._at(first + v * self.lanes)]
                        store(to, at, found.astype(f"{to.dtype}x{self.lanes}"))

    def _at(self, place: Expr | int) -> Expr:
        """A vector from ``place`` on."""
        return tirx.Ramp(i64(place) if isinstance(place, int) else place, i64(1), self.lanes)

    def _largest(self, row: Expr, at: Expr) -> tuple[Expr, Expr]:
        """What comes before the softmax, on the scores at ``at`` of the head's ``row``; the largest, and the largest of
        their magnitudes as bits. There is no score where no key is.
        """
        scores, keys, steps = self.scratch.scores, self.layout.keys, self.attention.steps
        ragged = keys.extent % self.lanes

        def stepped(key: Expr) -> Expr:
            store(scores, at + key, self.operands.after(steps, scores[at + key], row, key))
            return scores[at + key]

        def there(key: Expr) -> Expr:
            return scores[at + key]

        if ragged:
            whole = keys.extent - ragged
            with loop(whole // self.lanes) as turn, vector(self.lanes) as lane:
                stepped(turn * self.lanes + lane)
            with loop(keys.extent, whole) as key:
                stepped(key)
            with loop(keys.padded, keys.extent) as key:
                store(scores, at + key, f32(-math.inf))
        vectors = keys.padded // self.lanes
        largest = Fold(vectors, self.lanes).of(tirx.max, -math.inf, there if ragged else stepped)
        return largest, Fold(vectors, self.lanes, "int32").of(tirx.max, 0, lambda key: _magnitude(scores[at + key]))

    def _weigh(self, row: Expr, largest: tuple[Expr, Expr]) -> None:
        """The scores of ``row``, whose ``largest`` is known, to codes of weights, and their sum.

        Where the unit is 1, no code can reach beyond int8, and none is NaN, as in every step, these need not be
        thought of: an exponential is 0 to 1, and one below 2^-125 is 0 in a whole number as it is. So is that of a key
        that is not there.
        """
        coding, keys, (top, bits) = self.attention.coding, self.layout.keys, largest
        scores, at = self.scratch.scores, row * keys.padded
        factor, unit = (T.bind(self._number(each)) for each in (coding.factor, coding.unit))
        shift = self.zero.astype("float32")
        top = T.bind(tirx.Select(bits > i32(INFINITY), f32(math.nan), top))

        def careful(key: Expr) -> Expr:
            whole = tirx.nearbyint(exp_expression(scores[at + key] - top) * factor / unit) + shift
            made = tirx.max(tirx.min(whole, f32(MOST)), f32(LEAST)).astype("int32") - self.zero
            # No Select, see `tvm_flow.lower.exponential`; the sign of key - S is all ones where there is a key.
            return tirx.bitwise_and(made, tirx.shift_right(key.astype("int32") - i32(keys.extent), i32(31)))

        def usual(key: Expr) -> Expr:
            return tirx.nearbyint(falling_expression(scores[at + key] - top) * factor).astype("int32")

        inside = tirx.And(factor >= f32(0.0), factor + shift <= f32(MOST))
        finite = tirx.And(bits <= i32(INFINITY), _magnitude(top) < i32(INFINITY))
        with T.If(tirx.And(tirx.And(unit == f32(1.0), inside), finite)):
            with T.Then():
                self._weights(row, usual, unit)
            with T.Else():
                self._weights(row, careful, unit)

    def _weights(self, row: Expr, weight: Callable[[Expr], Expr], unit: Expr) -> None:
        """Codes less their zero as ``weight`` gives them of a key, and their sum."""
        keys, weights, at = self.layout.keys, self.scratch.weights, row * self.layout.width(self.dot)
        shift = self.zero if self.attention.correction or not self.dot.wide else i32(0)
        shift = shift + self.dot.bias

        def code(key: Expr) -> Expr:
            made = weight(key)
            store(weights, at + key, (made + shift).astype(self.dot.code))
            return made

        added = Fold(keys.padded // self.lanes, self.lanes, "int32", parts=1).of(lambda a, b: a + b, 0, code)
        store(self.scratch.total, row, added.astype("float32") * unit)

    def _number(self, operand: Var | float) -> Expr:
        return f32(operand) if isinstance(operand, float) else self.operands.tensors[operand][0]

    def _write(self, first: Expr, row: Expr) -> None:
        """The output's row, the head's ``first`` + ``row``."""
        attention, scratch, operands = self.attention, self.scratch, self.operands
        channels, width = attention.channels, self.layout.channels.padded
        head_row = first + row

        def write(channel: Expr) -> None:
            value = scratch.sums[row * width + channel]
            if attention.correction is not None:
                given, view = attention.correction
                value = value - operands.tensors[given][operands.place(view, head_row, channel)]
            value = operands.after(attention.scaled, value.astype("float32"), head_row, channel)
            value = operands.after(attention.written.steps, value / scratch.total[row], head_row, channel)
            store(self.out, operands.place(attention.written.view, head_row, channel), value)

        whole = channels // self.lanes * self.lanes
        with loop(whole // self.lanes) as turn, vector(self.lanes) as lane:
            write(turn * self.lanes + lane)
        with loop(channels, whole) as channel:
            write(channel)


def _magnitude(number: Expr) -> Expr:
    """Its bits but the sign: beyond infinity's for NaN."""
    return tirx.bitwise_and(tirx.reinterpret("int32", number), i32(MAGNITUDE))
