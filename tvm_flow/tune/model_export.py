"""``tvm-flow tune --modelled``: the kernels of an export for a core that is not there, by `modelled`.

As `tune_export`, with a model in the place of a machine: each default first, whose share of all cycles decides its
share of the budget, then candidates kernel by kernel, every one in the store before the next ones start. A candidate
counts only when its output, run here or under qemu, is what `tvm_flow.tune.agreement` asks for.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tvm_flow.artifact import require_unchanged
from tvm_flow.backends.cpu.spaces import default_choice
from tvm_flow.errors import BitExactError, BuildError, ConfigError
from tvm_flow.export.write import load_exported
from tvm_flow.graph.constants import Array
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.agreement import Right, first_right
from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.ledger import Writer, read_ledger
from tvm_flow.tune.live import Live
from tvm_flow.tune.modelled import CoreModel
from tvm_flow.tune.proposals import propose
from tvm_flow.tune.tune_export import Tuned, TuneOptions
from tvm_flow.tune.verdicts import MODEL, tried, verdict
from tvm_flow.tune.workloads import choices_of, code_hash, scheduled

BATCH = 8
"""Candidates that are modelled between two proposals."""
MOST_THREADS = 4
"""Unless told otherwise: what a thread costs is not modelled, and of many only how small tasks are would count."""


@dataclass(frozen=True)
class Reference:
    """Arguments of a call and what is right for them, and the default's cycles."""

    right: Right
    cycles: float


def tune_modelled(
    export: Path, target: TargetSpec, store: Path, options: TuneOptions, say: Callable[[str], None]
) -> Tuned:
    """See the module. Ctrl-C ends it; what was modelled is kept.

    Raises ConfigError when no kernel is wanted, BuildError where llvm-mca or qemu lack; ExportError,
    ImportGraphError; OSError when the store cannot be written.
    """
    cores = min(target.board.big or target.board.little or 1, MOST_THREADS)
    start, threads = time.monotonic(), options.threads or cores
    exported = load_exported(export)
    require_unchanged(export, "export")
    kernels = tuned_kernels(exported, target, threads, lambda words: options.only in words, options.progress, MODEL)
    if not kernels:
        raise ConfigError(f"--only {options.only!r}: expected a part of a kernel's name or shape, got none of {export}")
    say(f"{len(kernels)} kernels with a space, modelled for {threads} threads of {target.cpu}: nothing is measured")
    tuned = Tuned(modelled=True)
    with tempfile.TemporaryDirectory(prefix="tvm-flow-model-") as folder, Writer(store) as writer:
        live = Live(say, options.trials, "candidate", options.progress)
        run = _Run(CoreModel(target, threads), options, Path(folder), writer, live, tuned)
        try:
            with closing(live):
                run.all(kernels, list(read_ledger(store).entries))
        except KeyboardInterrupt:
            tuned.interrupted = True
    tuned.seconds = tuned.costs.compile = time.monotonic() - start
    return tuned


@dataclass
class _Run:
    model: CoreModel
    options: TuneOptions
    folder: Path
    writer: Writer
    live: Live
    tuned: Tuned
    done: int = 0
    right: dict[str, Reference] = field(default_factory=dict)

    def all(self, kernels: Sequence[TunedKernel], known: Sequence[Entry]) -> None:
        mine = {k.task.key: [each for each in known if each.key == k.task.key] for k in kernels}
        self.done = sum(len(tried(entries)) for entries in mine.values())
        left = self.options.trials - self.done
        for kernel in kernels:
            self.tuned.verdicts[kernel.task.key.workload] = (kernel.task, verdict(mine[kernel.task.key]))
        if left <= 0:
            self.live.line("the budget is met: nothing is modelled")
            return
        weights = {k.task.key: self._default(k) * k.task.calls for k in kernels}
        order = sorted((k for k in kernels if weights[k.task.key]), key=lambda k: -weights[k.task.key])
        for position, kernel in enumerate(order):
            entries, rest = mine[kernel.task.key], sum(weights[k.task.key] for k in order[position:])
            share = max(1, round(left * weights[kernel.task.key] / rest))
            before = len(tried(entries))
            self._one(kernel, entries, min(share + before, before + left))
            left -= len(tried(entries)) - before
            if left <= 0:
                return

    def _default(self, kernel: TunedKernel) -> float:
        """Cycles of a call; 0 for one that cannot be modelled."""
        try:
            self.right[kernel.task.key.workload] = found = reference(self.model, kernel, self.folder)
        except BuildError as error:
            self.tuned.failed[kernel.task.label] = str(error)
            self.live.line(f"{kernel.task.label}: {error}")
            return 0.0
        return found.cycles

    def _one(self, kernel: TunedKernel, entries: list[Entry], trials: int) -> None:
        task, right = kernel.task, self.right[kernel.task.key.workload]
        space = [each for each in task.space if as_parallel(kernel, each)]
        self.live.kernel(task.label)
        while (count := min(BATCH, trials - len(tried(entries)))) > 0:
            ratios = {e.candidate: e.baseline[0] / e.samples[0] if e.samples else 0.0 for e in entries}
            proposed = propose(space, ratios, count, zlib.crc32(task.key.workload.encode()))
            if not proposed:
                break
            for entry in modelled_entries(self.model, kernel, proposed, right, self.folder):
                self.writer.append(entry)
                entries.append(entry)
            self.done += len(proposed)
            self.tuned.trials += len(proposed)
            self.live.at(self.done, max([1.0, *(e.baseline[0] / e.samples[0] for e in entries if e.samples)]))
        found = verdict(entries)
        self.tuned.verdicts[task.key.workload] = (task, found)
        self.live.line(f"{task.label}: {'tuned' if found.tuned else 'default'}: {found.why}")


def reference(model: CoreModel, kernel: TunedKernel, folder: Path) -> Reference:
    """The default of ``kernel``; raises BuildError when it cannot be run, or the reference disagrees."""
    cycles = 0.0

    def run(args: Sequence[Array]) -> bytes:
        nonlocal cycles
        cycles, output = model.time(kernel, DEFAULT, args, folder)
        return output.tobytes()

    try:
        return Reference(first_right(kernel, run), cycles)
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
        for process in processes:
            process.start()
        try:
            for process in processes:
                process.join()
        finally:
            for process in processes:
                process.kill()
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
