"""softmax(steps(Q K^T)) V in blocks of keys: no more than a few rows of one block's scores exist at a time.

A task packs K and V of a block into tiles as wide as the registers hold, zeros where no key is, and then, a group of
rows after the other, with m_0 the least finite float:

    s = steps(q K_j^T)              m_j = max(m_j-1, max_k s_k)        a = exp(m_j-1 - m_j)
    e_k = exp(s_k - m_j)            t_j = t_j-1 a + sum_k e_k          o_j = o_j-1 a + sum_k e_k v_k

and at last out = o / t. A key that is not there has the score negative infinity, and so no weight.

The bound of sum_k (e_k / t) v_k with whole rows, which `tvm_flow.numerics.bounded` derives from the kernel's meaning,
holds for this too; u = 2^-24, S keys in n blocks of B.

- One division last instead of one of each weight is one rounding of out, which moves it by u |out|, instead of one of
  each weight, which may move it by u sum_k (e_k / t) |v_k|, and that is not less. With one block that is all.
- The weight of a key is exp(s - m_j) times the factors a of the blocks after j. The differences add up to s - m and are
  all of one sign, so their roundings come to at most u |s - m|, as they do where one difference is taken.
- A factor is an exponential, wrong by up to 4 u, and multiplied by and added to with one rounding each. So a term of o
  has B + 6 (n - 1) roundings at most, where the bound counts S, and one of t one less, where the bound counts S - 1.
  S is at least n B - (n - 1), so this is enough where B is at least 7.
- Where the bound knows that a weight is at most 1 and t at least 1, so it is here, but for roundings that are counted:
  sums of what is not negative never round to less than one of their terms, and the row's largest score has the weight
  1, and only factors of 1 after it.

NaN in a row's scores is in its t, and so in all of it, as is the difference of equal infinities. Sums before the
division are up to B times as large as their quotient, so values beyond 3e38 / B may overflow.

One core of Zen 4 with AVX2 alone, which does 45 GMAC/s at most (2026-11-26): products 0.96 of that, exponentials and
sums a fifth of the time, in all 33 at 256 keys, 36 at 1024, 34 at 300. With blocks of 128 or groups of 64 rows no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.attention_tiles import Layout, Span
from tvm_flow.backends.cpu.softmax import Attention, Step
from tvm_flow.graph.lifted import shape_of
from tvm_flow.graph.types import Buffer, Expr, PrimFunc, Var
from tvm_flow.lower.exponential import weight_expression

PARTS = 4
"""Vectors of partial maxima, and sums, of a row: a single one would wait for its own last addition."""
LOWEST = float(np.finfo(np.float32).min)
_Read = Callable[[Expr, Expr], Expr]
"""Of a row and a place along the sum."""
_Write = Callable[[Expr, Expr, Expr], None]
"""To a row and a column, a value."""
_OPERATORS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "relax.add": lambda a, b: a + b,
    "relax.subtract": lambda a, b: a - b,
    "relax.multiply": lambda a, b: a * b,
    "relax.divide": lambda a, b: a / b,
}


def streamed(name: str, attention: Attention, layout: Layout) -> PrimFunc:
    """TIR function ``name`` of the attention's parameters and its output."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        given = {p: T.arg(p.name, _typed(shape_of(p))) for p in attention.parameters}
        out = T.arg("out", _typed((*attention.batch, attention.rows, attention.channels)))
        tasks = math.prod(attention.batch) * attention.rows // layout.task
        with (T.parallel if layout.parallel else T.serial)(_i64(0), _i64(tasks)) as task:
            _Task(attention, layout, given, out, task).emit()
    return builder.get().with_attr("global_symbol", name)


class _Task:
    """The statements of one task; row numbers are of the task unless they are said to be of the head."""

    def __init__(self, attention: Attention, layout: Layout, given: Mapping[Var, Buffer], out: Buffer, task: Expr):
        self.attention, self.layout, self.given, self.out = attention, layout, given, out
        self.lanes = layout.keys.lanes
        tasks = attention.rows // layout.task
        self.head = _indices(tirx.floordiv(task, _i64(tasks)), attention.batch)
        self.first = T.bind(tirx.floormod(task, _i64(tasks)) * layout.task)
        """Row of the head."""
        self.keys = _allocated(layout.keys.padded * attention.depth)
        self.values = _allocated(layout.keys.extent * layout.channels.padded)
        self.scores = _allocated(layout.group * layout.keys.padded)
        self.sums = _allocated(layout.task * layout.channels.padded)
        self.top, self.total = _allocated(layout.task), _allocated(layout.task)

    def emit(self) -> None:
        """Every block of keys with every group of rows, then the division."""
        lay, width = self.layout, self.layout.channels.padded
        with _loop(lay.task) as row:
            _store(self.top, row, _f32(LOWEST))
            _store(self.total, row, _f32(0.0))
        with self._vectors(lay.task * width) as place:
            _store(self.sums, place, _f32(0.0))
        with _loop(lay.blocks) as block:
            start = T.bind(block * lay.keys.extent)
            there = T.bind(tirx.min(_i64(lay.keys.extent), self.attention.keys - start))
            self._pack_keys(start, there)
            self._pack_values(start, there)
            with _loop(lay.task // lay.group) as group:
                self._group(T.bind(group * lay.group), start, there)
        with _loop(lay.task) as row:
            self._divide(row)

    def _pack_keys(self, start: Expr, there: Expr) -> None:
        """[tile of keys, D, key] of K [.., D, S]; ``there`` are the block's keys, ``start`` is the first."""
        span, depth, k = self.layout.keys, self.attention.depth, self.given[self.attention.k]
        with _loop(span.tiles) as tile, _loop(depth) as d, _loop(span.vectors) as vector:
            key = T.bind(tile * span.columns + vector * span.lanes)
            to = T.bind((tile * depth + d) * span.columns + vector * span.lanes)
            self._copy(self.keys, to, there - key, lambda lane: k[(*self.head, d, start + key + lane)])

    def _pack_values(self, start: Expr, there: Expr) -> None:
        """[tile of channels, key, channel] of V [.., S, E]."""
        span, block, v = self.layout.channels, self.layout.keys.extent, self.given[self.attention.v]
        with _loop(span.tiles) as tile, _loop(block) as key, _loop(span.vectors) as vector:
            channel = T.bind(tile * span.columns + vector * span.lanes)
            to = T.bind((tile * block + key) * span.columns + vector * span.lanes)
            left = tirx.Select(key < there, span.extent - channel, _i64(0))
            self._copy(self.values, to, left, lambda lane: v[(*self.head, start + key, channel + lane)])

    def _copy(self, packed: Buffer, to: Expr, left: Expr, read: Callable[[Expr], Expr]) -> None:
        """A vector of which the first ``left`` lanes exist; zeros for the others."""
        with T.If(left >= self.lanes):
            with T.Then(), self._vector() as lane:
                _store(packed, to + lane, read(lane))
            with T.Else(), _loop(self.lanes) as lane:
                _store(packed, to + lane, tirx.if_then_else(lane < left, read(lane), _f32(0.0)))

    def _group(self, row: Expr, start: Expr, there: Expr) -> None:
        """The rows ``row`` and on of a group with the block of keys."""
        keys, channels = self.layout.keys, self.layout.channels
        q = self.given[self.attention.q]

        def score(r: Expr, column: Expr, value: Expr) -> None:
            _store(self.scores, r * keys.padded + column, value)

        def add(r: Expr, column: Expr, value: Expr) -> None:
            place = (row + r) * channels.padded + column
            _store(self.sums, place, self.sums[place] + value)

        self._product(keys, lambda r, d: q[(*self.head, self.first + row + r, d)], self.keys, score)
        with _loop(self.layout.group) as r:
            self._step(self.first + row + r, r * keys.padded, start, there)
            self._weigh(row + r, r * keys.padded)
        self._product(channels, lambda r, key: self.scores[r * keys.padded + key], self.values, add)

    def _product(self, span: Span, left: _Read, packed: Buffer, write: _Write) -> None:
        """A group's rows of ``left`` times ``packed`` [tile, depth, column], tile by tile, in registers."""
        rows, width = self.layout.rows, span.columns
        depth = self.attention.depth if span is self.layout.keys else self.layout.keys.extent
        places = [(r, v * span.lanes) for r in range(rows) for v in range(span.vectors)]
        with _loop(span.tiles) as tile, _loop(self.layout.group // rows) as strip:
            sums = _allocated(rows * width)
            for r, column in places:
                with self._vector() as lane:
                    _store(sums, r * width + column + lane, _f32(0.0))
            with _loop(depth) as d:
                for r, column in places:
                    with self._vector() as lane:
                        product = left(strip * rows + r, d) * packed[(tile * depth + d) * width + column + lane]
                        _store(sums, r * width + column + lane, sums[r * width + column + lane] + product)
            for r, column in places:
                with self._vector() as lane:
                    write(strip * rows + r, tile * width + column + lane, sums[r * width + column + lane])

    def _step(self, row: Expr, at: Expr, start: Expr, there: Expr) -> None:
        """What comes before the softmax, on the scores at ``at`` of the head's ``row``; no score where no key is."""
        scores, span = self.scores, self.layout.keys

        def apply(key: Expr) -> None:
            value = scores[at + key]
            for step in self.attention.steps:
                value = self._stepped(step, value, row, start + key)
            _store(scores, at + key, value)

        if self.attention.steps:
            whole = T.bind(tirx.floordiv(there, _i64(span.lanes)))
            with _loop(whole) as vector, self._vector() as lane:
                apply(vector * span.lanes + lane)
            with _loop(there, whole * span.lanes) as key:
                apply(key)
        if span.padded * self.layout.blocks > self.attention.keys:
            with _loop(span.padded, there) as key:
                _store(scores, at + key, _f32(-math.inf))

    def _stepped(self, step: Step, value: Expr, row: Expr, key: Expr) -> Expr:
        if isinstance(step.operand, float):
            other = _f32(step.operand)
        else:
            shape = shape_of(step.operand)
            indices = (*self.head, row, key)[len(self.head) + 2 - len(shape) :]
            kept = (index if extent > 1 else _i64(0) for index, extent in zip(indices, shape, strict=True))
            other = self.given[step.operand][tuple(kept)]
        return _OPERATORS[step.operator](*((other, value) if step.first else (value, other)))

    def _weigh(self, row: Expr, at: Expr) -> None:
        """The scores at ``at`` of ``row`` to weights; the row's sums to what these are relative to."""
        scores, top, total, width = self.scores, self.top, self.total, self.layout.channels.padded

        def weight(key: Expr) -> Expr:
            _store(scores, at + key, weight_expression(scores[at + key] - new))
            return scores[at + key]

        new = T.bind(tirx.max(top[row], self._fold(tirx.max, LOWEST, lambda key: scores[at + key])))
        added = T.bind(self._fold(_OPERATORS["relax.add"], 0.0, weight))
        if self.layout.blocks == 1:
            _store(total, row, added)
            return
        factor = T.bind(weight_expression(top[row] - new))
        _store(top, row, new)
        _store(total, row, total[row] * factor + added)
        with self._vectors(width) as channel:
            _store(self.sums, row * width + channel, self.sums[row * width + channel] * factor)

    def _fold(self, combine: Callable[[Expr, Expr], Expr], initial: float, read: Callable[[Expr], Expr]) -> Expr:
        """All that ``read`` gives of the block's keys, combined."""
        vectors = -(-self.layout.keys.extent // self.lanes)
        parts = min(PARTS, vectors)
        partial = _allocated(parts * self.lanes)

        def take(part: int, value: Callable[[Expr], Expr], first: Expr | int) -> None:
            with self._vector() as lane:
                place = part * self.lanes + lane
                _store(partial, place, combine(partial[place], value(first + lane)))

        with self._vectors(parts * self.lanes) as place:
            _store(partial, place, _f32(initial))
        with _loop(vectors // parts) as turn:
            for part in range(parts):
                take(part, read, (turn * parts + part) * self.lanes)
        for rest in range(vectors // parts * parts, vectors):
            take(0, read, rest * self.lanes)
        for part in range(1, parts):
            take(0, lambda place: partial[place], part * self.lanes)
        found = [partial[lane] for lane in range(self.lanes)]
        while len(found) > 1:
            found = [combine(a, b) for a, b in zip(found[::2], found[1::2], strict=True)]
        return found[0]

    def _vector(self) -> AbstractContextManager[Expr]:
        """A vector's lanes."""
        return T.vectorized(_i64(0), _i64(self.lanes))  # type: ignore[no-any-return]

    @contextmanager
    def _vectors(self, extent: int) -> Iterator[Expr]:
        """Places up to ``extent``, a multiple of the lanes, vector by vector."""
        with _loop(extent // self.lanes) as vector, self._vector() as lane:
            yield vector * self.lanes + lane

    def _divide(self, row: Expr) -> None:
        """The output's row."""
        channels, width = self.attention.channels, self.layout.channels.padded

        def divide(channel: Expr) -> None:
            value = self.sums[row * width + channel] / self.total[row]
            _store(self.out, (*self.head, self.first + row, channel), value)

        whole = channels // self.lanes * self.lanes
        with self._vectors(whole) as channel:
            divide(channel)
        with _loop(channels, whole) as channel:
            divide(channel)


def _loop(stop: int | Expr, start: int | Expr = 0) -> AbstractContextManager[Expr]:
    """From ``start`` up to ``stop``, int64."""
    start, stop = (_i64(end) if isinstance(end, int) else end for end in (start, stop))
    return T.serial(start, stop)  # type: ignore[no-any-return]


def _allocated(elements: int) -> Buffer:
    """Small ones in registers, or on the stack."""
    return T.alloc_buffer((_i64(elements),), "float32", align=64)


def _store(buffer: Buffer, place: Expr | tuple[Expr, ...], value: Expr) -> None:
    T.buffer_store(buffer, value, list(place) if isinstance(place, tuple) else [place])


def _typed(shape: tuple[int, ...]) -> Expr:
    return T.buffer([_i64(extent) for extent in shape], "float32")


def _indices(flat: Expr, shape: tuple[int, ...]) -> tuple[Expr, ...]:
    """Of element ``flat`` of a tensor of ``shape``."""
    found: list[Expr] = []
    for extent in reversed(shape):
        found.append(T.bind(tirx.floormod(flat, _i64(extent))))
        flat = tirx.floordiv(flat, _i64(extent))
    return tuple(reversed(found))


def _i64(value: int) -> Expr:
    return tirx.const(value, "int64")


def _f32(value: float) -> Expr:
    return tirx.const(value, "float32")
