"""The tune command: every kernel of an export, those that take the most time first, until the budget is met.

1. extract the kernels (`extracted`), and what the store knows of each
2. measure each default once: its share of the run decides its share of the trials
3. search kernel by kernel (`search`); every measurement is in the store before the next one starts
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tvm_flow.artifact import require_unchanged
from tvm_flow.backends.packed import CPU
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export.write import load_exported
from tvm_flow.target.spec import TargetSpec, detect_host
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_check import check_board
from tvm_flow.tune.board_session import BoardError
from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.ledger import Writer, read_ledger
from tvm_flow.tune.live import Live, won_share
from tvm_flow.tune.local_bench import BoardBench, Costs, LocalBench
from tvm_flow.tune.rounds import NoTimeError
from tvm_flow.tune.run_files import RunFile, write_run
from tvm_flow.tune.search import Progress, Search, Task
from tvm_flow.tune.statistics import median
from tvm_flow.tune.verdicts import Verdict, tried, verdict

DEFAULT_TRIALS = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuneOptions:
    """``trials`` over all kernels, met ones included, or ``minutes`` (0: no limit); ``threads`` 0: every core."""

    trials: int = DEFAULT_TRIALS
    minutes: float = 0.0
    only: str = ""
    threads: int = 0
    workers: int = 0
    progress: bool = True
    board: Board | None = None
    """None: this machine."""


@dataclass
class Tuned:
    """What a tuning found: a verdict for each task, trials that it ran, and where the time went."""

    verdicts: dict[str, tuple[Task, Verdict]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    trials: int = 0
    seconds: float = 0.0
    worker_start: float = 0.0
    costs: Costs = field(default_factory=Costs)
    interrupted: bool = False
    ended: str = ""
    """Why it ended before its budget was met: what became of the board."""
    modelled: bool = False
    """Nothing was measured."""

    def lines(self) -> list[str]:
        """For a person."""
        won = [each for each in self.verdicts.values() if each[1].tuned]
        lines = [f"{task.label}: {found.why}" for task, found in won]
        lines += [f"{label}: failed: {why}" for label, why in self.failed.items()]
        search = max(self.seconds - self.costs.compile - self.costs.run, 0.0)
        lines.append(
            f"{len(won)} of {len(self.verdicts)} kernels are faster than their default"
            f"{' by the model of a core, not measured' if self.modelled else ''}, {self.trials} trials in "
            f"{self.seconds:.0f} s: compile {self.costs.compile:.0f} s, run {self.costs.run:.0f} s, "
            f"import and search {search:.0f} s"
        )
        return lines


def tune(export: Path, target: TargetSpec, store: Path, options: TuneOptions, say: Callable[[str], None]) -> Tuned:
    """See the module. Ctrl-C ends it; what was measured is kept.

    Raises ConfigError when no kernel is wanted; ExportError, ImportGraphError, BuildError; OSError when the store
    cannot be written.
    """
    start, cores = time.monotonic(), len(os.sched_getaffinity(0))
    threads = options.threads or (1 if options.board else cores)
    exported = load_exported(export)
    require_unchanged(export, "export")
    kernels = tuned_kernels(exported, target, threads, lambda words: options.only in words, options.progress)
    if not kernels:
        others = ", ".join(name for name in target.backends if name != CPU)
        of = f" that the CPU runs: kernels of {others} are not tuned" if others else ""
        raise ConfigError(
            f"--only {options.only!r}: expected a part of a kernel's name or shape, got none of {export}{of}"
        )
    say(f"{len(kernels)} kernels with a space, {sum(len(each.task.space) for each in kernels)} candidates")
    with tempfile.TemporaryDirectory(prefix="tvm-flow-tune-") as folder, Writer(store) as writer:
        by_workload = {kernel.task.key.workload: kernel for kernel in kernels}
        bench = _bench(by_workload, target, threads, Path(folder), options)
        run = _Run(bench, writer, list(read_ledger(store).entries), options, start, say)
        try:
            with closing(run.live):
                run.all([kernel.task for kernel in kernels])
        except KeyboardInterrupt:
            run.tuned.interrupted = True
        except BoardError as error:
            run.tuned.ended = str(error)
        run.tuned.costs, run.tuned.seconds = bench.costs, time.monotonic() - start
        if run.tuned.trials:
            calls = {kernel.task.key.workload: kernel.task.calls for kernel in kernels}
            costs = (run.tuned.trials, run.tuned.seconds, bench.costs.compile, bench.costs.run)
            write_run(store, RunFile(target.name, *costs, calls))
        return run.tuned


def _bench(
    kernels: dict[str, TunedKernel], target: TargetSpec, threads: int, folder: Path, options: TuneOptions
) -> LocalBench:
    """Here, or on the board of ``options`` if it is the one that it should be."""
    workers = options.workers or len(os.sched_getaffinity(0))
    if options.board is None:
        require_here(target)
        return LocalBench(kernels, target, threads, workers, folder)
    check_board(options.board, target, folder)
    return BoardBench(kernels, target, threads, workers, folder, board=options.board)


def require_here(target: TargetSpec) -> None:
    """Raise BuildError when kernels of ``target`` cannot be timed on this machine."""
    here = detect_host()
    if target.triple != here.triple or not target.features <= here.features:
        raise BuildError(
            f"target {target.name}: expected a board to measure on (--board HOST:PORT/KEY), got this machine, which is "
            f"{here.cpu} and lacks {', '.join(sorted(target.features - here.features)[:5]) or 'its architecture'}"
        )


@dataclass
class _Run:
    bench: LocalBench
    writer: Writer
    known: list[Entry]
    options: TuneOptions
    start: float
    say: Callable[[str], None]
    tuned: Tuned = field(default_factory=Tuned)
    deadline: float = field(default=float("inf"))
    """Of the kernel that is searched, where minutes are given."""
    tried: int = 0
    """Trials that count for the budget."""
    weights: dict[str, float] = field(default_factory=dict)
    """Seconds of all calls of a kernel by default, by workload, where they are known."""

    def __post_init__(self) -> None:
        given = self.options
        total, unit = (given.minutes * 60, "s") if given.minutes else (given.trials, "trial")
        self.live = Live(self.say, total, unit, given.progress)

    def all(self, tasks: Sequence[Task]) -> None:
        """Every one of ``tasks`` with its share of the budget."""
        mine = {task.key: [entry for entry in self.known if entry.key == task.key] for task in tasks}
        for task in tasks:
            self.tuned.verdicts[task.key.workload] = (task, verdict(mine[task.key]))
        self.tried = sum(len(tried(entries)) for entries in mine.values())
        left = self.options.trials - self.tried
        open_tasks = [task for task in tasks if set(task.space) - tried(mine[task.key])]
        if (left <= 0 and not self.options.minutes) or not open_tasks:
            self.live.line("the budget is met: no trial is needed")
            return
        shares = {task.key: self._seconds(task, mine[task.key]) * task.calls for task in open_tasks}
        self.weights = {task.key.workload: _default_time(mine[task.key]) * task.calls for task in tasks}
        self.weights |= {key.workload: seconds for key, seconds in shares.items()}
        order = sorted((task for task in open_tasks if shares[task.key]), key=lambda task: -shares[task.key])
        whole = sum(shares.values())
        for position, task in enumerate(order):
            if self.options.minutes and time.monotonic() > self.start + self.options.minutes * 60:
                return
            had, wanted = len(tried(mine[task.key])), len(task.space)
            if not self.options.minutes:
                rest = sum(shares[each.key] for each in order[position:])
                wanted = min(len(task.space), had + max(1, round(left * shares[task.key] / rest)))
            else:
                self._share_time(shares[task.key] / sum(shares[each.key] for each in order[position:]))
            self.live.line(f"{task.label}: {shares[task.key] / whole:.1%} of the run, {wanted - had} trials at most")
            left -= self._one(task, mine[task.key], min(wanted, had + left) if not self.options.minutes else wanted)
            if left <= 0 and not self.options.minutes:
                return

    def _one(self, task: Task, known: Sequence[Entry], trials: int) -> int:
        progress, before = Progress(seen=self._tell), self.tuned.trials
        self.live.kernel(task.label)
        try:
            found = Search(self.bench, self.writer.append, self._late).run(task, known, trials, progress)
            self.tuned.verdicts[task.key.workload] = (task, found)
            self.live.line(f"{task.label}: {'tuned' if found.tuned else 'default'}: {found.why}")
        except BoardError:
            raise
        except NoTimeError as error:
            self.tuned.failed[task.label] = str(error)
            self.live.line(f"{task.label}: {error}")
        self.tuned.trials = before + progress.trials
        self.tried += progress.trials
        self.live.gained(won_share(self.weights, {key: found for key, (_, found) in self.tuned.verdicts.items()}))
        return progress.trials

    def _seconds(self, task: Task, known: Sequence[Entry]) -> float:
        """Of a call of the default, as the store has it or by a first race without rivals; 0 for one that fails."""
        if known_time := _default_time(known):
            return known_time
        try:
            with self.bench.open(task, []) as sampler:
                sampler.sample(DEFAULT)
                samples = tuple(sampler.sample(DEFAULT) for _ in range(3))
        except BoardError:
            raise
        except NoTimeError as error:
            self.tuned.failed[task.label] = str(error)
            return 0.0
        entry = Entry(task.key, Kind.TRIAL, DEFAULT, "", "", samples, samples, label=task.label)
        self.writer.append(entry)
        return median(samples)

    def _late(self) -> bool:
        return bool(self.options.minutes) and time.monotonic() > self.deadline

    def _share_time(self, share: float) -> None:
        """The next kernel's part of the minutes that are left."""
        now = time.monotonic()
        self.deadline = now + max(self.start + self.options.minutes * 60 - now, 0.0) * share

    def _tell(self, task: Task, progress: Progress) -> None:
        took = time.monotonic() - self.start
        self.live.at(took if self.options.minutes else self.tried + progress.trials, progress.best)
        if not self.options.progress:
            self.say(f"  {task.label}: {progress.trials} trials, best {progress.best:.3f} x the default, {took:.0f} s")


def _default_time(known: Sequence[Entry]) -> float:
    """Seconds of a call of the default as the store has it; 0 when it does not."""
    samples = next((entry.baseline for entry in known if entry.baseline), ())
    return median(samples) if samples else 0.0
