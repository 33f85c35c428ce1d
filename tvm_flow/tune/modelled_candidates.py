"""Records of candidates by `modelled`: a process for each share of them, outputs compared with the default's.

A candidate counts only when its output, run here or under qemu, is as right as the default's (`agreement`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.backends.cpu.spaces import default_choice
from tvm_flow.errors import BitExactError, BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.tune.agreement import Right, first_right
from tvm_flow.tune.counted import TIMEOUT
from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.forked import running
from tvm_flow.tune.modelled import CoreModel
from tvm_flow.tune.proposals import propose
from tvm_flow.tune.workloads import choices_of, code_hash, scheduled

BATCH = 8
"""Candidates that are modelled between two proposals."""


@dataclass(frozen=True)
class Reference:
    """Arguments of a call and what is right for them, and the default's cycles."""

    right: Right
    cycles: float
    seconds: float
    """That a candidate like it takes to be modelled."""


def modelled_batches(
    model: CoreModel, kernel: TunedKernel, known: Sequence[Entry], count: int, right: Reference, folder: Path
) -> Iterator[list[Entry]]:
    """Records of candidates of ``kernel`` until ``count`` are modelled, those ``known`` included, or none is left."""
    ratios = modelled_ratios(known)
    space = [each for each in kernel.task.space if as_parallel(kernel, each)]
    seed = zlib.crc32(kernel.task.key.workload.encode())
    while (more := min(BATCH, count - len(ratios))) > 0 and (proposed := propose(space, ratios, more, seed)):
        made = modelled_entries(model, kernel, proposed, right, folder)
        ratios |= modelled_ratios(made)
        yield made


def modelled_ratios(entries: Iterable[Entry]) -> dict[str, float]:
    """Candidate -> cycles of the default by its own; 0 for one that failed."""
    return {each.candidate: each.baseline[0] / each.samples[0] if each.samples else 0.0 for each in entries}


def reference(model: CoreModel, kernel: TunedKernel, folder: Path, timeout: float = TIMEOUT) -> Reference:
    """The default of ``kernel``, a call of which may take ``timeout`` seconds.

    Raises BuildError when it cannot be run, or the reference disagrees.
    """
    cycles = seconds = 0.0

    def run(args: Sequence[Array]) -> bytes:
        nonlocal cycles, seconds
        start = time.monotonic()
        cycles, output = model.time(kernel, DEFAULT, args, folder, timeout)
        seconds = time.monotonic() - start
        return output.tobytes()

    try:
        return Reference(first_right(kernel, run), cycles, seconds)
    except BitExactError as error:
        raise BuildError(str(error)) from error


def modelled_entries(
    model: CoreModel, kernel: TunedKernel, candidates: Sequence[str], right: Reference, folder: Path
) -> list[Entry]:
    """A record of each of ``candidates``, made in a process of its own, so that one that ends LLVM ends that alone."""
    context, workers = multiprocessing.get_context("fork"), len(os.sched_getaffinity(0))
    shares = [range(start, len(candidates), workers) for start in range(min(workers, len(candidates)))]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        given = (model, kernel, candidates, right, place)
        processes = [context.Process(target=_share, args=(share, given)) for share in shares]
        with running(processes):
            for process in processes:
                process.join()
        return [_entry(kernel, each, right, place / str(number)) for number, each in enumerate(candidates)]


_Given = tuple[CoreModel, TunedKernel, Sequence[str], Reference, Path]


def _share(numbers: Sequence[int], given: _Given) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    model, kernel, candidates, default, place = given
    for number in numbers:
        folder = place / f"{number}.work"
        folder.mkdir()
        try:
            cycles, output = model.time(kernel, candidates[number], default.right.args, folder)
            said = default.right.why_not(candidates[number], output.tobytes()) or repr(cycles)
        except Exception as error:
            said = f"failed: {error}"[:500]
        (place / str(number)).write_text(said)
    os._exit(0)  # nothing of the parent is to be flushed or closed twice


def _entry(kernel: TunedKernel, candidate: str, right: Reference, path: Path) -> Entry:
    said = path.read_text() if path.exists() else "its compiler ended"
    key, label = kernel.task.key, kernel.task.label
    try:
        cycles = float(said)
    except ValueError:
        return Entry(key, Kind.FAILED, candidate, cause=said, label=label)
    code, default_code = (code_hash(scheduled(kernel.packed, kernel.kernel, each)) for each in (candidate, DEFAULT))
    numbers = ((round(cycles, 1),), (round(right.cycles, 1),))
    return Entry(key, Kind.MODELLED, candidate, code, default_code, *numbers, exact=True, label=label)


def as_parallel(kernel: TunedKernel, candidate: str) -> bool:
    """The model does not know what a thread costs: ``candidate`` has to have them where its kernel's others do."""
    of, usual = choices_of(kernel.kernel, candidate)[kernel.kernel], default_choice(kernel.packed, kernel.kernel)
    return usual is None or of.parallel == usual.parallel
