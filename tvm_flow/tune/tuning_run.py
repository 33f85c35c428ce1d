"""What a tuning is to do, what it found, and the order of it: the kernels that take the most time first.

`Run` divides the budget; `LocalRun` spends it one kernel after another, `tvm_flow.tune.shared_run` on many boards.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_session import BoardError
from tvm_flow.tune.entries import Entry, Key
from tvm_flow.tune.ledger import Writer
from tvm_flow.tune.live import Live, won_share
from tvm_flow.tune.local_bench import Costs, LocalBench
from tvm_flow.tune.rounds import LateError, NoTimeError
from tvm_flow.tune.search import FINAL_SAMPLES, FirstOf, Progress, Search, Task, silent, time_default
from tvm_flow.tune.statistics import median
from tvm_flow.tune.verdicts import Verdict, tried, verdict

DEFAULT_TRIALS = 256
LEAST_SAMPLES, LEAST_SECONDS = 60 + FINAL_SAMPLES, 12.0
"""Of a kernel's search, where time is limited: samples of a race and finals, and seconds to compile and link for them.

Kernels that weigh most come first, so what this takes is missing to those that weigh least.
"""
DEFAULTS_SHARE = 0.5
"""Of the time that is limited, at most, before the search begins; kernels whose defaults wait then are left out."""


@dataclass(frozen=True)
class TuneOptions:
    """``trials`` over all kernels, met ones included, and ``minutes`` of all that a tuning does; 0: no limit.

    ``threads`` and ``workers`` 0: as many as there are cores.
    """

    trials: int = DEFAULT_TRIALS
    minutes: float = 0.0
    only: str = ""
    threads: int = 0
    workers: int = 0
    progress: bool = True
    board: Board | None = None
    """None: this machine."""
    boards: int = 1
    """Of its key, which share the kernels; 0: all that are free."""


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
    boards: int = 1
    """That shared the work; ``costs`` are of all together."""

    def lines(self) -> list[str]:
        """For a person."""
        won = [each for each in self.verdicts.values() if each[1].tuned]
        lines = [f"{task.label}: {found.why}" for task, found in won]
        lines += [f"{label}: failed: {why}" for label, why in self.failed.items()]
        search = max(self.seconds * self.boards - self.costs.compile - self.costs.run, 0.0)
        lines.append(
            f"{len(won)} of {len(self.verdicts)} kernels are faster than their default"
            f"{' by the model of a core, not measured' if self.modelled else ''}, {self.trials} trials in "
            f"{self.seconds:.0f} s: compile {self.costs.compile:.0f} s, run {self.costs.run:.0f} s, "
            f"import and search {search:.0f} s{f' of {self.boards} boards together' if self.boards > 1 else ''}"
        )
        return lines


@dataclass(kw_only=True)
class Run:
    """See the module."""

    known: list[Entry]
    options: TuneOptions
    start: float
    say: Callable[[str], None]
    tuned: Tuned = field(default_factory=Tuned)
    tried: int = 0
    """Trials that count for the budget."""
    weights: dict[str, float] = field(default_factory=dict)
    """Seconds of all calls of a kernel by default, by workload, where they are known."""

    def __post_init__(self) -> None:
        given = self.options
        total, unit = (given.minutes * 60, "s") if given.minutes else (given.trials, "trial")
        self.live = Live(self.say, total, unit, given.progress)
        self.mine: dict[Key, list[Entry]] = {}
        self.shares: dict[Key, float] = {}
        self.left = 0
        """Trials."""
        self.begin_search = math.inf
        """When so many seconds are left."""

    def all(self, tasks: Sequence[Task]) -> None:
        """Every one of ``tasks`` with its share of the budget."""
        self.mine = {task.key: [entry for entry in self.known if entry.key == task.key] for task in tasks}
        for task in tasks:
            self.tuned.verdicts[task.key.workload] = (task, verdict(self.mine[task.key]))
        self.tried = sum(len(tried(entries)) for entries in self.mine.values())
        self.left = self.options.trials - self.tried
        open_tasks = [task for task in tasks if set(task.space) - tried(self.mine[task.key])]
        if (self.options.trials and self.left <= 0) or not open_tasks:
            self.live.line("the budget is met: no trial is needed")
            return
        self.begin_search = self.time_left() * (1 - DEFAULTS_SHARE)
        seconds = self.seconds(sorted(open_tasks, key=lambda task: -task.work * task.calls))
        if not self.time_for_defaults and (unknown := sum(not seconds[task.key] for task in open_tasks)):
            self.live.line(f"{unknown} kernels are left out: there was no time for their defaults")
        self.shares = {task.key: seconds[task.key] * task.calls for task in open_tasks}
        self.weights = {task.key.workload: default_time(self.mine[task.key]) * task.calls for task in tasks}
        self.weights |= {key.workload: share for key, share in self.shares.items()}
        order = sorted((task for task in open_tasks if self.shares[task.key]), key=lambda task: -self.shares[task.key])
        self.search(order)

    def seconds(self, tasks: Sequence[Task]) -> Mapping[Key, float]:
        """Of a call of each default, as the store has it or as it is now; 0 for one that fails."""
        raise NotImplementedError

    def search(self, order: Sequence[Task]) -> None:
        """Spend the budget on ``order``."""
        raise NotImplementedError

    def part(self, task: Task, behind: Sequence[Task]) -> float:
        """Of what is left of the budget, with those ``behind`` it still to come."""
        return self.shares[task.key] / sum(self.shares[each.key] for each in (task, *behind))

    def time_for(self, task: Task, behind: Sequence[Task], boards: int = 1) -> float:
        """Seconds: its part of what is left, on one of ``boards``; a race and finals at least, while there is time."""
        left, least = self.time_left(), LEAST_SAMPLES * self.shares[task.key] / task.calls + LEAST_SECONDS
        return min(left, max(left * self.part(task, behind) * boards, least))

    def wanted(self, task: Task, behind: Sequence[Task]) -> int:
        """Trials for ``task``, those that it had included."""
        had, wanted = len(tried(self.mine[task.key])), len(task.space)
        if self.options.trials:
            wanted = min(wanted, had + max(1, round(self.left * self.part(task, behind))), had + self.left)
        of = self.shares[task.key] / sum(self.shares.values())
        self.live.line(f"{task.label}: {of:.1%} of the run, {wanted - had} trials at most")
        return wanted

    def time_left(self) -> float:
        """Seconds; without end where no minutes are given."""
        end = self.start + self.options.minutes * 60 if self.options.minutes else math.inf
        return max(end - time.monotonic(), 0.0)

    @property
    def time_for_defaults(self) -> bool:
        """The search need not begin yet."""
        return self.time_left() > self.begin_search or math.isinf(self.begin_search)

    @property
    def over(self) -> bool:
        """The budget is met."""
        return not self.time_left() or (self.options.trials > 0 and self.left <= 0)

    def found(self, task: Task, found: Verdict) -> None:
        """The end of a search."""
        self.tuned.verdicts[task.key.workload] = (task, found)
        self.live.line(f"{task.label}: {'tuned' if found.tuned else 'default'}: {found.why}")

    def failed(self, task: Task, why: str) -> None:
        """The end of one that has no times."""
        self.tuned.failed[task.label] = why
        self.live.line(f"{task.label}: {why}")

    def gained(self) -> None:
        """Tell what was won so far."""
        self.live.gained(won_share(self.weights, {key: found for key, (_, found) in self.tuned.verdicts.items()}))

    def tell(self, task: Task, progress: Progress, tried: int) -> None:
        """Tell of ``progress``, with ``tried`` trials over all kernels."""
        took = time.monotonic() - self.start
        self.live.at(took if self.options.minutes else tried, progress.best)
        if not self.options.progress:
            of = f"{tried} of {self.options.trials}" if self.options.trials else f"{tried}"
            best = f"{progress.trials} trials, best {progress.best:.3f} x the default"
            self.say(f"  {task.label}: {best}; {of} trials of all kernels, {took:.0f} s")


@dataclass(kw_only=True)
class LocalRun(Run):
    """One kernel after another."""

    bench: LocalBench
    writer: Writer
    first: FirstOf = silent
    deadline: float = math.inf
    """Of the kernel that is searched."""

    def seconds(self, tasks: Sequence[Task]) -> Mapping[Key, float]:
        """See `Run.seconds`; by a first race without rivals, as long as there is time."""
        return {task.key: self._seconds(task) if self.time_for_defaults else 0.0 for task in tasks}

    def search(self, order: Sequence[Task]) -> None:
        """See `Run.search`."""
        for position, task in enumerate(order):
            if self.over:
                return
            behind = order[position + 1 :]
            self.deadline = time.monotonic() + self.time_for(task, behind)
            self.left -= self._one(task, self.wanted(task, behind))

    def _one(self, task: Task, trials: int) -> int:
        progress, before = Progress(seen=self._tell), self.tuned.trials
        self.live.kernel(task.label)
        try:
            left = lambda: self.deadline - time.monotonic()  # noqa: E731
            search = Search(self.bench, self.writer.append, left, self.first)
            self.found(task, search.run(task, self.mine[task.key], trials, progress))
        except BoardError:
            raise
        except NoTimeError as error:
            self.failed(task, str(error))
        self.tuned.trials = before + progress.trials
        self.tried += progress.trials
        self.gained()
        return progress.trials

    def _seconds(self, task: Task) -> float:
        if known_time := default_time(self.mine[task.key]):
            return known_time
        try:
            entry = time_default(self.bench, task, self.time_left())
        except BoardError:
            raise
        except LateError:
            return 0.0
        except NoTimeError as error:
            self.tuned.failed[task.label] = str(error)
            return 0.0
        self.writer.append(entry)
        return median(entry.samples)

    def _tell(self, task: Task, progress: Progress) -> None:
        self.tell(task, progress, self.tried + progress.trials)


def default_time(known: Sequence[Entry]) -> float:
    """Seconds of a call of the default as the store has it; 0 when it does not."""
    samples = next((entry.baseline for entry in known if entry.baseline), ())
    return median(samples) if samples else 0.0
