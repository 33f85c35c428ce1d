"""Which calls around an attention are computed by its kernel: it reads Q, K and V where a product left them.

    cut, reshape, transpose, scale -> q, k, v -> attention -> transpose, reshape, to codes

Each of these is a kernel for a device that has none of its own for the whole. Here they are one, so that nothing is
moved without being computed on, and the output leaves in codes. What the prologue prepares, K and V of a caption, stays
there: it is laid out once a prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator

from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.graph.program import Program
from tvm_flow.lower.merged import merged


def attention_runs(program: Program, mine: Container[str]) -> list[range]:
    """Runs of calls of the kernels ``mine`` that are one attention each, with what is before and after it."""
    readers = Counter(name for call in program.calls for name in set(call.args))
    readers.update(program.outputs)
    attentions = {name for name in program.kernels if name in mine and as_attention(program.kernels[name]) is not None}
    found: list[range] = []
    for position, call in enumerate(program.calls):
        if call.kernel in attentions:
            free = found[-1].stop if found else 0
            runs = _runs(program, position, range(free, len(program.calls)), readers)
            here = (run for run in runs if all(program.calls[each].kernel in mine for each in run))
            found += [run for run in here if _is_one(program, run)][:1]
    return found


def _runs(program: Program, position: int, free: range, readers: Counter[str]) -> Iterator[range]:
    """Around the attention at ``position``, of calls that are ``free``, the longest first, each of several calls."""
    calls, side = program.calls, position < program.prologue
    first = last = position
    while first > free.start and (first - 1 < program.prologue) is side:
        output = calls[first - 1].output
        if output not in calls[position].args or readers[output] > 1:
            break
        first -= 1
    if last + 1 < free.stop and (last + 1 < program.prologue) is side:
        output = calls[position].output
        last += output in calls[last + 1].args and readers[output] == 1
    for run in (range(first, last + 1), range(first, position + 1), range(position, last + 1)):
        if len(run) > 1:
            yield run


def _is_one(program: Program, run: range) -> bool:
    """Whether there is a kernel for all of ``run``."""
    output = program.calls[run.stop - 1].output
    whole = merged(program, [run])
    (kernel,) = (call.kernel for call in whole.calls if call.output == output)
    return as_attention(whole.kernels[kernel]) is not None
