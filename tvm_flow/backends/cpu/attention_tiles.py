"""How `tvm_flow.backends.cpu.streaming` cuts an attention: into tasks, groups of rows, blocks of keys, and tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm_flow.backends.cpu.attention import PARALLEL_PRODUCTS, ROWS
from tvm_flow.backends.cpu.candidates import attention_space, other_threads
from tvm_flow.backends.cpu.choices import AttentionChoice, Choice
from tvm_flow.backends.cpu.registers import Registers
from tvm_flow.backends.cpu.softmax import Attention
from tvm_flow.errors import BuildError

BLOCK = 256
"""Keys of a block, about; half as many at least where there are several."""
TASK_ROWS, GROUP_ROWS = 256, 16
"""At most, of a task, which packs K and V once, and of the scores that exist at a time."""
FEWEST_TASKS = 16
"""Where there are fewer tasks they have fewer rows, so that every core gets some."""
FEWEST_ROWS, FEWEST_KEYS = 16, 96
"""Below, packing costs more than it saves."""
LEAST_BLOCK = 7
"""Keys of a block where there are several: what the bound in `tvm_flow.backends.cpu.streaming` takes."""
TRIED_BLOCK, TRIED_BYTES = 32, 1 << 20
"""Blocks that are tried have so many keys at least, and K and V of one are so large at most, as a second cache is."""


@dataclass(frozen=True)
class Span:
    """``extent`` columns as ``tiles`` of ``vectors`` of ``lanes``, the last ones padded."""

    extent: int
    tiles: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Of a tile."""
        return self.vectors * self.lanes

    @property
    def padded(self) -> int:
        """Columns of all tiles."""
        return self.tiles * self.columns


def span_of(extent: int, most: int, lanes: int) -> Span:
    """The tiles of up to ``most`` vectors that take the least time: each takes half a vector's beside its vectors."""
    needed = -(-extent // lanes)
    vectors = min(range(min(most, needed), 0, -1), key=lambda v: -(-needed // v) * (v + 0.5))
    return Span(extent, -(-needed // vectors), vectors, lanes)


@dataclass(frozen=True)
class Layout:
    """A task is ``task`` rows of one head, which scores ``group`` rows and one of the ``blocks`` of keys at a time.

    A thread takes ``tasks`` of them in a row, of heads that lie side by side. Tiles are ``rows`` x those of ``keys`` in
    the first product, and x those of ``channels`` in the second.
    """

    rows: int
    group: int
    task: int
    tasks: int
    blocks: int
    keys: Span
    channels: Span
    parallel: bool


def streams(attention: Attention) -> bool:
    """Whether K and V of ``attention`` are packed: where it is large enough, or they have to be moved in any case."""
    return attention.in_place or (attention.rows >= FEWEST_ROWS and attention.keys >= FEWEST_KEYS)


def layout_of(attention: Attention, registers: Registers, choice: AttentionChoice | None = None) -> Layout:
    """``attention`` cut into tiles of ``choice``, or of the default's; raises BuildError for one that does not fit."""
    choice = choice or streamed_default(attention, registers)
    rows = choice.rows
    if attention.rows % rows:
        raise BuildError(f"{choice}: expected rows that divide {attention.rows}; tune again")
    most = max(choice.columns // registers.lanes, 1)
    blocks = choice.blocks or _usual_blocks(attention)
    block = -(-attention.keys // blocks)
    if blocks > 1 and (block < LEAST_BLOCK or block * (blocks - 1) >= attention.keys):
        raise BuildError(f"{choice}: expected blocks that {attention.keys} keys fill; tune again")
    keys = span_of(block, most, registers.lanes)
    channels = span_of(attention.channels, most, registers.lanes)
    group = rows * divisor(attention.rows // rows, (choice.group or GROUP_ROWS) // rows)
    task, tasks = tasks_of(attention, group)
    return Layout(rows, group, task, tasks, blocks, keys, channels, choice.parallel)


def tasks_of(attention: Attention, group: int) -> tuple[int, int]:
    """Rows of a task, in whole groups of so many rows, and tasks that a thread takes in a row."""
    fair = max(attention.rows * math.prod(attention.batch) // FEWEST_TASKS, group)
    task = group * divisor(attention.rows // group, min(TASK_ROWS, fair) // group)
    heads = math.prod(attention.batch) * attention.rows // task
    return task, divisor(heads, max(min(TASK_ROWS // task, heads // FEWEST_TASKS), 1)) if task == attention.rows else 1


def streamed_space(attention: Attention, registers: Registers) -> list[Choice]:
    """What `layout_of` takes beside its default, the nearest first; one of those that come to the same tiles."""
    default = streamed_default(attention, registers)
    tried = [
        *other_threads(default, attention.products, PARALLEL_PRODUCTS),
        *attention_space(attention.rows, attention.keys, default, registers, _cuts(attention)),
    ]
    found = {layout_of(attention, registers, each): each for each in reversed(tried)}
    found.pop(layout_of(attention, registers), None)
    kept = set(found.values())
    return [each for each in tried if each in kept]


def _cuts(attention: Attention) -> list[tuple[int, int]]:
    """Blocks of keys, and rows whose scores exist at a time, beside the default's, which are 0."""
    keys, usual, width = attention.keys, _usual_blocks(attention), 4 * (attention.depth + attention.channels)
    wanted = {1, usual // 4, usual // 2, 2 * usual, 4 * usual} - {0, usual}
    sizes = {blocks: -(-keys // blocks) for blocks in sorted(wanted)}
    blocks = [
        n
        for n, size in sizes.items()
        if (n == 1 or (size >= TRIED_BLOCK and size * (n - 1) < keys)) and size * width <= TRIED_BYTES
    ]
    groups = [group for group in (GROUP_ROWS // 2, 2 * GROUP_ROWS, 4 * GROUP_ROWS) if group <= attention.rows]
    return [(n, group) for n in (0, *blocks) for group in (0, *groups)]


def _usual_blocks(attention: Attention) -> int:
    return max(1, round(attention.keys / BLOCK))


def streamed_default(attention: Attention, registers: Registers) -> AttentionChoice:
    """The choice that `layout_of` makes of itself."""
    rows = next(r for r in range(ROWS, 0, -1) if attention.rows % r == 0)
    return AttentionChoice(rows, registers.columns(rows) * registers.lanes, attention.products >= PARALLEL_PRODUCTS)


def divisor(extent: int, most: int) -> int:
    """The largest divisor of ``extent`` up to ``most``; at least 1."""
    return next((d for d in range(min(extent, most), 1, -1) if extent % d == 0), 1)
