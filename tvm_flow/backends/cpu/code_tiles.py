"""How an attention of codes is cut: into tasks, groups of rows that are scored at a time, and tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tvm_flow.backends.cpu.attention import PARALLEL_PRODUCTS, ROWS
from tvm_flow.backends.cpu.attention_tiles import GROUP_ROWS, divisor, tasks_of
from tvm_flow.backends.cpu.code_attention import CodeAttention
from tvm_flow.backends.cpu.code_dots import CodeDot

GROUP_SCORES = 1 << 14
"""At most, that exist at a time, unless one tile of rows has more."""
MOST_PACKED = 1 << 22
"""Bytes of K and V of a head, packed: more stay apart."""


@dataclass(frozen=True)
class Part:
    """``tiles`` of ``vectors``, the first at column ``first``."""

    first: int
    tiles: int
    vectors: int


@dataclass(frozen=True)
class Columns:
    """``extent`` columns in tiles of ``vectors`` of ``lanes``, the last padded; ``depth`` units are added up."""

    extent: int
    depth: int
    lanes: int
    vectors: int

    @property
    def padded(self) -> int:
        """Columns of all vectors."""
        return -(-self.extent // self.lanes) * self.lanes

    @property
    def parts(self) -> Iterator[Part]:
        """Tiles of `vectors`, and one of what is left."""
        tiles, rest = divmod(self.padded // self.lanes, self.vectors)
        if tiles:
            yield Part(0, tiles, self.vectors)
        if rest:
            yield Part(tiles * self.vectors * self.lanes, 1, rest)


@dataclass(frozen=True)
class CodeLayout:
    """A task is ``task`` rows of one head, which scores ``group`` rows at a time, in tiles of ``rows``.

    A thread takes ``tasks`` of them in a row, of heads that lie side by side.
    """

    rows: int
    group: int
    task: int
    tasks: int
    keys: Columns
    channels: Columns
    parallel: bool

    def width(self, dot: CodeDot) -> int:
        """Codes of a row of weights: whole units, and whole vectors."""
        return max(self.keys.padded, self.channels.depth * dot.depth)


def code_layout_of(attention: CodeAttention, dot: CodeDot) -> CodeLayout:
    """``attention`` cut for ``dot``."""
    rows = divisor(attention.rows, ROWS)
    most = max(min(GROUP_ROWS, GROUP_SCORES // attention.keys) // rows, 1)
    group = rows * divisor(attention.rows // rows, most)
    task, tasks = tasks_of(attention, group)
    keys = Columns(attention.keys, -(-attention.depth // dot.depth), dot.lanes, dot.vectors)
    channels = Columns(attention.channels, -(-attention.keys // dot.depth), dot.lanes, dot.vectors)
    return CodeLayout(rows, group, task, tasks, keys, channels, attention.products >= PARALLEL_PRODUCTS)


def fits(attention: CodeAttention) -> bool:
    """Whether a thread can hold K and V of a head."""
    return math.prod((attention.depth + attention.channels, attention.keys, 2)) <= MOST_PACKED
