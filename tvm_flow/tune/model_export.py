"""``tvm-flow tune --modelled``: the kernels of an export for a core that is not there, by `modelled`.

As `tune_export`, with a model in the place of a machine: each default first, whose share of all cycles decides its
share of the budget, then candidates kernel by kernel, every one in the store before the next ones start. A candidate
counts only when its output, run here or under qemu, is what `tvm_flow.tune.agreement` asks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tvm_flow.artifact import require_unchanged
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export.write import load_exported
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.entries import Entry
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.ledger import Writer, read_ledger
from tvm_flow.tune.live import Live
from tvm_flow.tune.modelled import CoreModel
from tvm_flow.tune.modelled_candidates import Reference, modelled_batches, modelled_ratios, reference
from tvm_flow.tune.tune_export import Tuned, TuneOptions
from tvm_flow.tune.verdicts import MODEL, tried, verdict

MOST_THREADS = 4
"""Unless told otherwise: what a thread costs is not modelled, and of many only how small tasks are would count."""


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
    with temporary_folder("model") as folder, Writer(store) as writer:
        live = Live(say, options.trials, "candidate", options.progress)
        run = _Run(CoreModel(target, threads), options, folder, writer, live, tuned)
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
        self.live.kernel(task.label)
        for made in modelled_batches(self.model, kernel, tuple(entries), trials, right, self.folder):
            for entry in made:
                self.writer.append(entry)
                entries.append(entry)
            self.done += len(made)
            self.tuned.trials += len(made)
            self.live.at(self.done, max([1.0, *modelled_ratios(entries).values()]))
        found = verdict(entries)
        self.tuned.verdicts[task.key.workload] = (task, found)
        self.live.line(f"{task.label}: {'tuned' if found.tuned else 'default'}: {found.why}")
