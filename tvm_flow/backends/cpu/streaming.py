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

Q, K and V are read, and the output is written, where and as `tvm_flow.backends.cpu.softmax` says: what is done to an
element of them is done where it is packed, or as it leaves, by the operations of the kernels that would be before and
after, in their order. So the bits are those of kernels of their own.

NaN in a row's scores is in its t, and so in all of it, as is the difference of equal infinities. Sums before the
division are up to B times as large as their quotient, so values beyond 3e38 / B may overflow.

One core of Zen 4 with AVX2 alone, which does 45 GMAC/s at most (2026-11-26): products 0.96 of that, exponentials and
sums a fifth of the time, in all 33 at 256 keys, 36 at 1024, 34 at 300. With blocks of 128 or groups of 64 rows no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.attention_operands import Operands
from tvm_flow.backends.cpu.attention_tiles import Layout, Span
from tvm_flow.backends.cpu.folds import Fold
from tvm_flow.backends.cpu.softmax import Attention
from tvm_flow.backends.cpu.statements import allocated, argument, f32, flat, i64, indices, loop, store, vector
from tvm_flow.graph.lifted import dtype_of, shape_of
from tvm_flow.graph.types import Buffer, Expr, PrimFunc, Var
from tvm_flow.lower.exponential import weight_expression

LOWEST = float(np.finfo(np.float32).min)
_Read = Callable[[Expr, Expr], Expr]
"""Of a row and a place along the sum."""
_Write = Callable[[Expr, Expr, Expr], None]
"""To a row and a column, a value."""


def streamed(name: str, attention: Attention, layout: Layout) -> PrimFunc:
    """TIR function ``name`` of the attention's parameters and its output."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        given = [argument(p.name, shape_of(p), dtype_of(p)) for p in attention.parameters]
        out = flat(argument("out", attention.written.shape, attention.written.dtype))
        tensors = {p: flat(buffer) for p, buffer in zip(attention.parameters, given, strict=True)}
        tasks = math.prod(attention.batch) * attention.rows // layout.task
        with (T.parallel if layout.parallel else T.serial)(i64(0), i64(tasks // layout.tasks)) as turn:
            kernel = _Kernel(attention, layout, tensors, out, _scratch(attention, layout))
            with loop(layout.tasks) as task:
                _Task(kernel, T.bind(turn * layout.tasks + task)).emit()
    return builder.get().with_attr("global_symbol", name)


@dataclass(frozen=True)
class _Scratch:
    """What a thread works on: float32, reused by its tasks."""

    queries: Buffer | None
    """None where Q is read as it lies."""
    keys: Buffer
    values: Buffer
    scores: Buffer
    sums: Buffer
    top: Buffer
    total: Buffer


@dataclass(frozen=True)
class _Kernel:
    """What all tasks of a thread share; ``tensors`` and ``out`` as one dimension each."""

    attention: Attention
    layout: Layout
    tensors: Mapping[Var, Buffer]
    out: Buffer
    scratch: _Scratch


def _scratch(attention: Attention, layout: Layout) -> _Scratch:
    return _Scratch(
        queries=allocated(layout.group * attention.depth) if attention.q.steps else None,
        keys=allocated(layout.keys.padded * attention.depth),
        values=allocated(layout.keys.extent * layout.channels.padded),
        scores=allocated(layout.group * layout.keys.padded),
        sums=allocated(layout.task * layout.channels.padded),
        top=allocated(layout.task),
        total=allocated(layout.task),
    )


class _Task:
    """The statements of one task; row numbers are of the task unless they are said to be of the head."""

    def __init__(self, kernel: _Kernel, task: Expr):
        attention, layout = self.attention, self.layout = kernel.attention, kernel.layout
        self.scratch, self.out, self.lanes = kernel.scratch, kernel.out, layout.keys.lanes
        tasks = attention.rows // layout.task
        head = indices(tirx.floordiv(task, i64(tasks)), attention.batch)
        self.operands = Operands(kernel.tensors, head, self.lanes)
        self.first = T.bind(tirx.floormod(task, i64(tasks)) * layout.task)
        """Row of the head."""

    def emit(self) -> None:
        """Every block of keys with every group of rows, then the division."""
        lay, scratch = self.layout, self.scratch
        with loop(lay.task) as row:
            store(scratch.top, row, f32(LOWEST))
            store(scratch.total, row, f32(0.0))
        if lay.blocks > 1:
            with self._vectors(lay.task * lay.channels.padded) as place:
                store(scratch.sums, place, f32(0.0))
        with loop(lay.blocks) as block:
            start = T.bind(block * lay.keys.extent)
            there = T.bind(tirx.min(i64(lay.keys.extent), self.attention.keys - start))
            self.operands.pack_keys(scratch.keys, self.attention.k, lay, start, there)
            self.operands.pack_values(scratch.values, self.attention.v, lay, start, there)
            with loop(lay.task // lay.group) as group:
                self._group(T.bind(group * lay.group), start, there)
        with loop(lay.task) as row:
            self._write(row)

    def _group(self, row: Expr, start: Expr, there: Expr) -> None:
        """The rows ``row`` and on of a group with the block of keys."""
        keys, channels, scratch = self.layout.keys, self.layout.channels, self.scratch

        def score(r: Expr, column: Expr, value: Expr) -> None:
            store(scratch.scores, r * keys.padded + column, value)

        def add(r: Expr, column: Expr, value: Expr) -> None:
            place = (row + r) * channels.padded + column
            store(scratch.sums, place, scratch.sums[place] + value if self.layout.blocks > 1 else value)

        self._product(keys, self._queries(row), scratch.keys, score)
        with loop(self.layout.group) as r:
            self._step(self.first + row + r, r * keys.padded, start, there)
            self._weigh(row + r, r * keys.padded)
        self._product(channels, lambda r, key: scratch.scores[r * keys.padded + key], scratch.values, add)

    def _queries(self, row: Expr) -> _Read:
        """Q of the rows ``row`` and on of a group."""
        q, packed, depth = self.attention.q, self.scratch.queries, self.attention.depth
        if packed is None:
            return lambda r, d: self.operands.element(q, self.first + row + r, d)
        self.operands.pack_rows(packed, q, self.first + row, self.layout.group)
        return lambda r, d: packed[r * depth + d]

    def _product(self, span: Span, left: _Read, packed: Buffer, write: _Write) -> None:
        """A group's rows of ``left`` times ``packed`` [tile, depth, column], tile by tile, in registers."""
        rows, width = self.layout.rows, span.columns
        depth = self.attention.depth if span is self.layout.keys else self.layout.keys.extent
        places = [(r, v * span.lanes) for r in range(rows) for v in range(span.vectors)]
        with loop(span.tiles) as tile, loop(self.layout.group // rows) as strip:
            sums = allocated(rows * width)
            for r, column in places:
                with vector(self.lanes) as lane:
                    store(sums, r * width + column + lane, f32(0.0))
            with loop(depth) as d:
                for r, column in places:
                    with vector(self.lanes) as lane:
                        product = left(strip * rows + r, d) * packed[(tile * depth + d) * width + column + lane]
                        store(sums, r * width + column + lane, sums[r * width + column + lane] + product)
            for r, column in places:
                with vector(self.lanes) as lane:
                    write(strip * rows + r, tile * width + column + lane, sums[r * width + column + lane])

    def _step(self, row: Expr, at: Expr, start: Expr, there: Expr) -> None:
        """What comes before the softmax, on the scores at ``at`` of the head's ``row``; no score where no key is."""
        scores, span, steps = self.scratch.scores, self.layout.keys, self.attention.steps

        def apply(key: Expr) -> None:
            store(scores, at + key, self.operands.after(steps, scores[at + key], row, start + key))

        if steps:
            whole = T.bind(tirx.floordiv(there, i64(span.lanes)))
            with loop(whole) as turn, vector(self.lanes) as lane:
                apply(turn * span.lanes + lane)
            with loop(there, whole * span.lanes) as key:
                apply(key)
        if span.padded * self.layout.blocks > self.attention.keys:
            with loop(span.padded, there) as key:
                store(scores, at + key, f32(-math.inf))

    def _weigh(self, row: Expr, at: Expr) -> None:
        """The scores at ``at`` of ``row`` to weights; the row's sums to what these are relative to."""
        scores, width = self.scratch.scores, self.layout.channels.padded
        top, total, sums = self.scratch.top, self.scratch.total, self.scratch.sums

        def weight(key: Expr) -> Expr:
            store(scores, at + key, weight_expression(scores[at + key] - new))
            return scores[at + key]

        fold = Fold(-(-self.layout.keys.extent // self.lanes), self.lanes)
        new = T.bind(tirx.max(top[row], fold.of(tirx.max, LOWEST, lambda key: scores[at + key])))
        added = fold.of(lambda a, b: a + b, 0.0, weight)
        if self.layout.blocks == 1:
            store(total, row, added)
            return
        factor = T.bind(weight_expression(top[row] - new))
        store(top, row, new)
        store(total, row, total[row] * factor + added)
        with self._vectors(width) as channel:
            store(sums, row * width + channel, sums[row * width + channel] * factor)

    @contextmanager
    def _vectors(self, extent: int) -> Iterator[Expr]:
        """Places up to ``extent``, a multiple of the lanes, vector by vector."""
        with loop(extent // self.lanes) as turn, vector(self.lanes) as lane:
            yield turn * self.lanes + lane

    def _write(self, row: Expr) -> None:
        """The output's row."""
        channels, width, written = self.attention.channels, self.layout.channels.padded, self.attention.written
        scratch, operands = self.scratch, self.operands

        def write(channel: Expr) -> None:
            value = scratch.sums[row * width + channel] / scratch.total[row]
            value = operands.after(written.steps, value, self.first + row, channel)
            store(self.out, operands.place(written.view, self.first + row, channel), value)

        whole = channels // self.lanes * self.lanes
        with self._vectors(whole) as channel:
            write(channel)
        with loop(channels, whole) as channel:
            write(channel)
