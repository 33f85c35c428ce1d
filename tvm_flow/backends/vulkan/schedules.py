"""Which invocation computes what: loops of a kernel's TIR bound to workgroups and invocations.

    elements   one invocation for each 32-bit word of the output; the sums that it needs it makes for itself
    rows       one workgroup for each row, whose sums all its invocations make together in shared memory
    row each   one invocation for each row, where rows are short
    attention  one workgroup for each row of scores, which stay in shared memory; where `attention` takes none

What is between sums is computed where it is read, arithmetic being cheap, but for rows that several read: these are
kept in shared memory, or by the invocation, as are values of a whole row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import s_tir

from tvm_flow.backends.cpu.blocks import is_reduction, written_shape
from tvm_flow.graph.types import Block, Loop, PrimFunc, Schedule
from tvm_flow.target.vulkan_device import VulkanDevice

WORD = "vulkan.word"
"""Annotation of a loop over the elements of one 32-bit word of the output."""
GROUP = 64
"""Invocations of a workgroup: a multiple of nearly every subgroup there is, within every device's limits."""
SHORT = 32
"""Rows up to this length are one invocation's."""
MOST_REPEATED = 1 << 32
"""Steps of a kernel whose sums are made anew for every element; with more it would seem to hang."""


class CannotSchedule(Exception):
    """Why a kernel has no schedule here."""


@dataclass(frozen=True)
class Scheduled:
    """A kernel with its loops bound; ``kind`` is one of the module's."""

    kind: str
    function: PrimFunc


def schedule_shader(function: PrimFunc, device: VulkanDevice) -> Scheduled:
    """Bound copy of an unscheduled TIR function; raises CannotSchedule with the reason."""
    schedule = s_tir.Schedule(function)
    if _is_attention(schedule):
        blocks, output = _inlined(schedule, {_name(schedule, schedule.get_producers(_blocks(schedule)[1])[0])})
        needed = 4 * (2 * written_shape(schedule, blocks[0])[-1] + 2 + 2 * GROUP)
        if needed > device.shared_bytes:
            raise CannotSchedule(f"attention over {needed} bytes of shared memory; there are {device.shared_bytes}")
        _attention(schedule, blocks, output)
        return Scheduled("attention", schedule.mod["main"])
    if not _share_rows(schedule):
        _elements(schedule, *_inlined(schedule, set()))
        return Scheduled("elements", schedule.mod["main"])
    kept = _kept(schedule)
    short = written_shape(schedule, _blocks(schedule)[1])[-1] <= SHORT
    blocks, output = _inlined(schedule, kept)
    (_row_each if short else _rows)(schedule, blocks, output)
    return Scheduled("row each" if short else "rows", schedule.mod["main"])


def _name(schedule: Schedule, block: Block) -> str:
    return str(schedule.get(block).name_hint)


def _blocks(schedule: Schedule) -> tuple[list[Block], Block]:
    *inner, output = schedule.get_child_blocks(schedule.get_sblock("root"))
    return inner, output


def _is_attention(schedule: Schedule) -> bool:
    """Softmax between two products: the output multiplies what comes from another product's rows."""
    inner, output = _blocks(schedule)
    sums = [block for block in inner if is_reduction(schedule, block)]
    return len(sums) == 3 and all(
        is_reduction(schedule, block) and len(schedule.get(block).reads) == 2 for block in (sums[0], output)
    )


def _inlined(schedule: Schedule, kept: set[str]) -> tuple[list[Block], Block]:
    """The blocks that are left, sums and those of ``kept``, and the output, which adds nothing up."""
    if is_reduction(schedule, _blocks(schedule)[1]):
        schedule.cache_write(_blocks(schedule)[1], 0, "local")
    for block in _blocks(schedule)[0]:
        if not is_reduction(schedule, block) and _name(schedule, block) not in kept:
            schedule.compute_inline(block)
    return _blocks(schedule)


def _kept(schedule: Schedule) -> set[str]:
    """Of rows that are one invocation's or one workgroup's, what is not computed anew by every reader."""
    inner, output = _blocks(schedule)
    rows, length = _rows_and_length(schedule, output)
    found = set()
    for block in inner:
        own_rows, own_length = _rows_and_length(schedule, block)
        read_again = len(schedule.get_consumers(block)) > 1
        if own_rows == rows and (own_length == 1 or (own_length == length and read_again)):
            found.add(_name(schedule, block))
    return found


def _rows_and_length(schedule: Schedule, block: Block) -> tuple[int, int]:
    *rows, length = written_shape(schedule, block) or [1]
    return math.prod(rows), length


def _share_rows(schedule: Schedule) -> bool:
    """Every sum has one value for each row of the output and runs along it, and rows are of whole words."""
    inner, output = _blocks(schedule)
    rows, length = _rows_and_length(schedule, output)
    sums = [block for block in inner if is_reduction(schedule, block)]
    return (
        bool(sums or is_reduction(schedule, output))
        and rows > 1
        and length % _elements_of_a_word(schedule, output) == 0
        and all(
            math.prod(written_shape(schedule, block)) == rows and _reduces_last(schedule, block)
            for block in [*sums, *([output] if is_reduction(schedule, output) else [])]
        )
    )


def _reduces_last(schedule: Schedule, block: Block) -> bool:
    kinds = [int(variable.iter_type) for variable in schedule.get(block).iter_vars]
    return kinds.count(2) == 1 and kinds[-1] == 2


def _elements_of_a_word(schedule: Schedule, block: Block) -> int:
    dtype = str(schedule.get(block).writes[0].source.dtype)
    return 32 // int("".join(filter(str.isdigit, dtype)))


def _fused(schedule: Schedule, loops: list[Loop]) -> Loop:
    return schedule.fuse(*loops) if len(loops) > 1 else loops[0]


def _words(schedule: Schedule, output: Block, loop: Loop, group: int) -> tuple[Loop, Loop, Loop]:
    """``loop`` as (outer, invocation, element of a word)."""
    outer, invocation, element = schedule.split(loop, [None, group, _elements_of_a_word(schedule, output)])
    schedule.annotate(element, WORD, 1)
    schedule.bind(invocation, "threadIdx.x")
    return outer, invocation, element


def _elements(schedule: Schedule, sums: list[Block], output: Block) -> None:
    loops = schedule.get_loops(output) or [schedule.add_unit_loop(output)]
    outer, _, element = _words(schedule, output, _fused(schedule, loops), GROUP)
    schedule.bind(outer, "blockIdx.x")
    for block in reversed(sums):
        schedule.compute_at(block, element, preserve_unit_loops=True)
        schedule.set_scope(block, 0, "local")
    steps = sum(math.prod(int(schedule.get(loop).extent) for loop in schedule.get_loops(block)) for block in sums)
    if len(sums) > 1 and steps > MOST_REPEATED:
        names = ", ".join(str(schedule.get(block).name_hint) for block in sums)
        raise CannotSchedule(f"the sums {names} are not along rows of the output, and anew for each element too many")


def _row_each(schedule: Schedule, blocks: list[Block], output: Block) -> None:
    *rows, column = schedule.get_loops(output)
    group, row = schedule.split(_fused(schedule, rows), [None, GROUP])
    schedule.bind(group, "blockIdx.x")
    schedule.bind(row, "threadIdx.x")
    _, element = schedule.split(column, [None, _elements_of_a_word(schedule, output)])
    schedule.annotate(element, WORD, 1)
    for block in reversed(blocks):
        schedule.compute_at(block, row, preserve_unit_loops=True)
        schedule.set_scope(block, 0, "local")


def _rows(schedule: Schedule, blocks: list[Block], output: Block) -> None:
    *rows, column = schedule.get_loops(output)
    row = _fused(schedule, rows)
    length = int(schedule.get(column).extent) // _elements_of_a_word(schedule, output)
    group = min(GROUP, 1 << (length.bit_length() - 1))
    _words(schedule, output, column, group)
    schedule.bind(row, "blockIdx.x")
    for block in reversed(blocks):
        if is_reduction(schedule, block) or _rows_and_length(schedule, block)[1] > 1:
            _together(schedule, block, row, group)
        else:  # a value of the row, which every invocation computes for itself
            schedule.compute_at(block, row, preserve_unit_loops=True)
            schedule.set_scope(block, 0, "local")


def _together(schedule: Schedule, block: Block, row: Loop, group: int) -> None:
    """``block`` once for each row, its last loop shared among the invocations."""
    schedule.compute_at(block, row, preserve_unit_loops=True)
    schedule.set_scope(block, 0, "shared")
    _, invocation = schedule.split(schedule.get_loops(block)[-1], [None, group])
    schedule.bind(invocation, "threadIdx.x")


def _attention(schedule: Schedule, blocks: list[Block], output: Block) -> None:
    scores, *softmax, products = blocks
    *rows, column = schedule.get_loops(output)
    row = _fused(schedule, rows)
    extent = int(schedule.get(column).extent)
    _, _, element = _words(schedule, output, column, min(GROUP, 1 << (extent.bit_length() - 1)))
    schedule.bind(row, "blockIdx.x")
    group = min(GROUP, 1 << (extent.bit_length() - 1))
    schedule.compute_at(products, element, preserve_unit_loops=True)
    for block in reversed(softmax):
        _together(schedule, block, row, group)
    schedule.compute_at(scores, row, preserve_unit_loops=True)
    schedule.set_scope(scores, 0, "shared")
    *_, key, _ = schedule.get_loops(scores)
    _, invocation = schedule.split(key, [None, group])
    schedule.bind(invocation, "threadIdx.x")
