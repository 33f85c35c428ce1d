"""Which calls around an attention are computed by its kernel: it reads Q, K and V where a product left them.

    cut, reshape, transpose, scale, norm, rope -> q, k, v -> attention -> transpose, reshape, to codes

Each of these is a kernel for a device that has none of its own for the whole. Here they are one, so that nothing is
moved without being computed on, and the output leaves in codes. What the prologue prepares, K and V of a caption, stays
there: it is laid out once a prompt.

An attention of codes is cut up in the same way, and between its products too: what only its own calls read joins them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import islice

from tvm_flow.backends.cpu.code_attention import as_code_attention
from tvm_flow.backends.cpu.code_tiles import fits
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name
from tvm_flow.graph.program import Program
from tvm_flow.graph.types import Relax
from tvm_flow.lower.merged import Wiring, merged, wiring
from tvm_flow.lower.partition import ANCHORS

Readers = dict[str, set[int]]
"""Calls that read a tensor, by position."""
OUTSIDE = -1
"""Who reads a program's outputs."""
MOST_APART = 8
"""Calls from the scores of codes to the last of their attention, where it is cut up."""


def attention_runs(program: Program, mine: Container[str]) -> list[range]:
    """Runs of calls of the kernels ``mine`` that are one attention each, with what is before and after it."""
    readers: Readers = {name: {OUTSIDE} for name in program.outputs}
    for position, call in enumerate(program.calls):
        for name in call.args:
            readers.setdefault(name, set()).add(position)
    attentions = {name for name in program.kernels if name in mine and as_attention(program.kernels[name]) is not None}
    found: list[range] = []
    known: dict[Wiring, bool] = {}
    for position, call in enumerate(program.calls):
        free = range(found[-1].stop if found else 0, len(program.calls))
        scores = position in free and call.kernel in mine and _scores_codes(program.kernels[call.kernel])
        if call.kernel in attentions or scores:
            given = (program, position, free, readers)
            runs = _code_runs(*given, known) if scores else _runs(*given)
            here = (run for run in runs if all(program.calls[each].kernel in mine for each in run))
            found += islice((run for run in here if _is_one(program, run, known)), 1)
    return found


def _runs(program: Program, position: int, free: range, readers: Readers) -> Iterator[range]:
    """Around the attention at ``position``, of calls that are ``free``, the longest first, each of several calls."""
    calls, side = program.calls, position < program.prologue

    def here(other: int) -> bool:
        return other in free and (other < program.prologue) is side

    first = last = position
    while here(first - 1) and readers.get(calls[first - 1].output) == {position}:
        first -= 1
    least = first
    while here(least - 1) and _is_inside(program, least - 1, range(least, position + 1), readers):
        least -= 1
    last += here(last + 1) and readers.get(calls[position].output) == {last + 1}
    for run in dict.fromkeys(range(start, stop + 1) for start in (least, first, position) for stop in (last, position)):
        if len(run) > 1:
            yield run


def _is_inside(program: Program, call: int, run: range, readers: Readers) -> bool:
    """Whether nothing but ``run`` reads what ``call`` makes, which is no product."""
    operators = {op_name(value) for _, value in bindings_of(program.kernels[program.calls[call].kernel])}
    return readers.get(program.calls[call].output, set()) <= set(run) and not operators & ANCHORS


def _is_one(program: Program, run: range, known: dict[Wiring, bool]) -> bool:
    """Whether there is a kernel for all of ``run``; ``known`` is of runs before, as blocks are alike."""
    calls = program.calls[run.start : run.stop]
    if (seen := wiring(calls)) not in known:
        whole = merged(program, [run])
        (kernel,) = (call.kernel for call in whole.calls if call.output == calls[-1].output)
        function = whole.kernels[kernel]
        known[seen] = as_attention(function) is not None or (
            (codes := as_code_attention(function)) is not None and fits(codes)
        )
    return known[seen]


def _scores_codes(function: Relax) -> bool:
    """Whether ``function`` is a product of codes in heads, which may be the first of an attention."""
    calls = [value for _, value in bindings_of(function) if op_name(value)]
    return len(calls) == 1 and op_name(calls[0]) in ANCHORS and dtype_of(calls[0]) == "int32" and calls[0].ty.ndim > 2


def _code_runs(
    program: Program, position: int, free: range, readers: Readers, known: dict[Wiring, bool]
) -> Iterator[range]:
    """Around the scores of codes at ``position``, the longest first; none where they are of no attention."""
    side = position < program.prologue
    here = [each for each in free if (each < program.prologue) is side]
    ends = range(position + 1, min(position + MOST_APART, here[-1]) + 1)
    closed = [stop for stop in ends if _is_closed(program, range(position, stop + 1), readers)]
    core = next((stop for stop in closed if _is_one(program, range(position, stop + 1), known)), None)
    if core is None:
        return
    least = position
    while least - 1 in here and _is_inside(program, least - 1, range(least, core + 1), readers):
        least -= 1
    for start in range(least, position + 1):
        for stop in (core + 1, core):
            if stop == core or stop in closed:
                yield range(start, stop + 1)


def _is_closed(program: Program, run: range, readers: Readers) -> bool:
    """Whether nothing but ``run`` reads what it makes before its last call."""
    return all(readers.get(program.calls[each].output, set()) <= set(run) for each in run[:-1])
