"""Kernels that follow each other on one device as one region, where the device wants it so and takes it.

A kernel whose result only the next call reads, and the next, become one kernel (`Joining`), or whole runs of calls
(`Gathering`): what lies between them never leaves the device's own graph. What the device computes stays what it
computed: where parts have an arithmetic of their own, that of the whole is theirs, one after the other, and not what an
offer for the whole says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from tvm_flow.backends.base import Backend, Gathering, Joining, Offer, kernels_of
from tvm_flow.backends.packed import Arithmetic, Made, PackedProgram, Placement, Refusal
from tvm_flow.graph.constants import Array
from tvm_flow.graph.program import KernelCall, Program
from tvm_flow.lower.merged import merged
from tvm_flow.numerics.reference import Value
from tvm_flow.target.spec import TargetSpec


def joined(
    program: Program, placements: dict[str, Placement], backend: Joining | Gathering, target: TargetSpec
) -> tuple[Program, dict[str, Placement]]:
    """``program`` with runs of ``backend``'s calls as one where it wants them so, and where all kernels run."""
    runs = _runs(program, placements, backend)
    whole = merged(program, runs)
    offers = _offers(whole, placements, backend, target)
    outputs = {call.output: call for call in whole.calls}
    kept = [run for run in runs if outputs[program.calls[run.stop - 1].output].kernel in offers]
    whole, parts = merged(program, kept) if kept != runs else whole, PackedProgram(program, {}, {}, placements)
    offers, calls = _offers(whole, placements, backend, target), {call.output: call for call in whole.calls}
    found = {name: placement for name, placement in placements.items() if name in whole.kernels}
    for run in kept:
        call = calls[program.calls[run.stop - 1].output]
        if call.kernel not in found:
            offer, members = offers[call.kernel], [program.calls[position] for position in run]
            if any(placements[member.kernel].arithmetic is not None for member in members):
                ways = tuple(_way(member, call, parts, offer) for member in members)
                offer = replace(offer, arithmetic=_one_after_the_other(parts, ways))
            found[call.kernel] = offer.placement(backend.name)
    return whole, found


def _runs(program: Program, placements: Mapping[str, Placement], backend: Joining | Gathering) -> list[range]:
    """What ``backend`` wants as one, ascending."""
    if isinstance(backend, Gathering):
        return backend.runs(program, {name for name, placed in placements.items() if placed.device == backend.name})
    return list(_pairs(program, placements, backend))


def _offers(program: Program, known: Container[str], backend: Backend, target: TargetSpec) -> dict[str, Offer]:
    """By kernel, of those that are not ``known``."""
    asked = [kernel for kernel in kernels_of(program) if kernel.name not in known]
    answers = {kernel.name: backend.offers(kernel, target) for kernel in asked}
    return {name: answer for name, answer in answers.items() if not isinstance(answer, Refusal)}


def _pairs(program: Program, placements: Mapping[str, Placement], backend: Joining) -> Iterator[range]:
    """Neighbours on ``backend``, the first read by the second alone, that it joins; none is in two pairs."""
    readers = Counter(name for call in program.calls for name in set(call.args))
    after = 0
    for position, (first, second) in enumerate(pairwise(program.calls)):
        alone = readers[first.output] == 1 and first.output in second.args and first.output not in program.outputs
        here = all(placements[call.kernel].device == backend.name for call in (first, second))
        kernels = (program.kernels[call.kernel] for call in (first, second))
        if position >= after and alone and here and position + 1 != program.prologue and backend.joins(*kernels):
            yield range(position, position + 2)
            after = position + 2


@dataclass(frozen=True)
class _Way:
    """A part's kernel, and where its arguments are among those of the whole; None is what the part before made."""

    kernel: str
    sources: tuple[int | None, ...]


def _way(part: KernelCall, whole: KernelCall, parts: PackedProgram, offer: Offer) -> _Way:
    """How ``part`` reads the arguments that calls of ``whole`` pass by the ``offer``."""
    passed: tuple[int | Made, ...] = offer.arguments or tuple(range(len(whole.args)))
    places = [whole.args.index(name) if name in whole.args else None for name in part.args]
    own = parts.placements[part.kernel].arguments or tuple(range(len(part.args)))
    return _Way(part.kernel, tuple(_source(argument, places, passed) for argument in own))


def _source(argument: int | Made, places: list[int | None], passed: tuple[int | Made, ...]) -> int | None:
    if isinstance(argument, int):
        place = places[argument]
        return None if place is None else passed.index(place)
    positions = tuple(place for position in argument.positions if (place := places[position]) is not None)
    return passed.index(replace(argument, positions=positions))


def _one_after_the_other(parts: PackedProgram, ways: tuple[_Way, ...]) -> Arithmetic:
    def compute(inputs: list[Array]) -> Value:
        made: Value | None = None
        for way in ways:
            given = [made if source is None else inputs[source] for source in way.sources]
            made = parts.expected(way.kernel, given)  # type: ignore[arg-type]
        assert made is not None
        return made

    return compute
