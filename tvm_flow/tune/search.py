"""The search of one kernel: races over proposals until the budget is met, then finals, then a confirmed winner.

Everything that is measured goes to the writer at once. What the store knew before counts: a budget that is met costs no
trial, a larger one runs the difference, and finalists may come from an earlier run. Where time is limited, races end
early enough for the finals; finals that are cut all the same are kept, and decide nothing. Candidates that are not
ready to be timed then were not tried.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from tvm_flow.tune.entries import DEFAULT, Entry, Key, Kind
from tvm_flow.tune.machine_state import joined
from tvm_flow.tune.proposals import FEWEST_KNOWN, NOTHING, propose
from tvm_flow.tune.rounds import FINALISTS, PAIRS, SHORTEST, LateError, NoTimeError, Sampler, Timed, finals, race
from tvm_flow.tune.statistics import median, ratios
from tvm_flow.tune.verdicts import Verdict, tried, verdict

BATCH = 8
"""Candidates of a race: they are compiled together and run in one process."""
FINAL_SAMPLES = PAIRS * (FINALISTS + 2) + PAIRS * (1 + 2)
"""At most, of finals without a repeated round: finalists with candidate 0 before and after, then the best alone."""


@dataclass(frozen=True)
class Task:
    """A kernel to be tuned: its ``space``, the most promising first, without candidate 0."""

    key: Key
    label: str
    space: tuple[str, ...]
    calls: int = 1
    """How often it runs in all that the export does."""
    work: int = 0
    """Of a call, by a guess: what is timed first where time is short."""


class Bench(Protocol):
    """Where kernels run."""

    def open(self, task: Task, candidates: Sequence[str], seconds: float = math.inf) -> AbstractContextManager[Sampler]:
        """Candidate 0 and ``candidates``, compiled, compared with the reference, ready to be timed.

        Raises LateError where they are not ready in ``seconds``. One that cannot be run raises NoTimeError when it is
        sampled; so does candidate 0, which ends the task.
        """

    def code(self, task: Task, candidate: str) -> str:
        """Hash of the scheduled kernel."""


@dataclass
class Progress:
    """What a search has done so far."""

    trials: int = 0
    best: float = 1.0
    seen: Callable[[Task, Progress], None] | None = None

    def tell(self, task: Task) -> None:
        if self.seen is not None:
            self.seen(task, self)


FirstOf = Callable[[Task, int, float], Mapping[str, float]]
"""Ratios by a model, for the first of so many trials of a task in so many seconds; none where it is silent."""


def silent(_task: Task, _trials: int, _left: float) -> Mapping[str, float]:
    """No model."""
    return NOTHING


@dataclass
class Search:
    """See the module; ``write`` keeps an entry for good, ``left`` says for how many seconds there is time.

    ``first`` is asked once, of a task of which too little is measured to go by.
    """

    bench: Bench
    write: Callable[[Entry], None]
    left: Callable[[], float] = field(default=lambda: math.inf)
    first: FirstOf = silent

    def run(self, task: Task, known: Iterable[Entry], trials: int, progress: Progress | None = None) -> Verdict:
        """Try up to ``trials`` candidates of ``task``, those ``known`` included; raises NoTimeError for candidate 0."""
        progress, entries = progress or Progress(), [each for each in known if each.key == task.key]
        before, time = len(entries), self.left()
        modelled = self._first(task, entries, trials)
        with suppress(LateError):
            while self.left() > min(_finals_seconds(entries), time / 2):
                if not (proposed := self._next(task, entries, trials, modelled)):
                    break
                raced = self._race(task, proposed)
                entries += raced
                progress.trials += len(raced)
                progress.best = max([1.0, *_ratios(entries).values()])
                progress.tell(task)
            if len(entries) > before and not self._late():
                entries += self._finals(task, entries)
        return verdict(entries)

    def _first(self, task: Task, entries: Sequence[Entry], trials: int) -> Mapping[str, float]:
        known = len(tried(entries))
        return self.first(task, trials, self.left()) if known < min(trials, FEWEST_KNOWN) else NOTHING

    def _next(self, task: Task, entries: Sequence[Entry], trials: int, modelled: Mapping[str, float]) -> list[str]:
        if (count := min(BATCH, trials - len(tried(entries)))) <= 0:
            return []
        return propose(task.space, _ratios(entries), count, zlib.crc32(task.key.workload.encode()), modelled)

    def _race(self, task: Task, candidates: Sequence[str]) -> list[Entry]:
        with self.bench.open(task, candidates, self.left()) as sampler:
            timed = race(sampler, candidates, self._late)
        done = [each for each in candidates if not timed.cut or each in timed.samples or each in timed.failed]
        return [self._kept(task, each, timed, Kind.TRIAL) for each in done]

    def _finals(self, task: Task, entries: Sequence[Entry]) -> list[Entry]:
        """The best of all races against candidate 0, and the best of them a second time."""
        order = sorted(_ratios(entries).items(), key=lambda each: (-each[1], each[0]))
        chosen = [candidate for candidate, ratio in order if ratio > 1.0][:FINALISTS]
        if not chosen:
            return []
        with self.bench.open(task, chosen, self.left()) as sampler:
            timed = finals(sampler, chosen, PAIRS, self._late)
            winner = max(timed.samples, key=lambda each: timed.interval(each).low, default=DEFAULT)
            if winner and timed.interval(winner).wins and not timed.cut:
                _append(timed, finals(sampler, [winner], PAIRS, self._late), winner)
        done = [each for each in chosen if not timed.cut or each in timed.samples or each in timed.failed]
        return [self._kept(task, each, timed, Kind.TRIAL if timed.cut else Kind.FINAL) for each in done]

    def _late(self) -> bool:
        return self.left() <= 0

    def _kept(self, task: Task, candidate: str, timed: Timed, kind: Kind) -> Entry:
        """The entry of ``candidate``, written."""
        samples, baseline = timed.samples.get(candidate, []), timed.baseline.get(candidate, [])
        cause = timed.failed.get(candidate, "" if samples else "candidate 0 never held still beside it")
        failed = not samples or candidate in timed.failed
        entry = Entry(
            task.key,
            Kind.FAILED if failed else kind,
            candidate,
            code="" if failed else self.bench.code(task, candidate),
            default_code=self.bench.code(task, DEFAULT),
            samples=() if failed else tuple(samples),
            baseline=() if failed else tuple(baseline),
            exact=not failed,
            cause=cause,
            label=task.label,
            state=joined(timed.states) | {"repeated_rounds": timed.repeated, "rounds_given_up": timed.given_up},
        )
        self.write(entry)
        return entry


def time_default(bench: Bench, task: Task, seconds: float = math.inf) -> Entry:
    """The default in a first race without rivals; raises NoTimeError, LateError as `Bench.open`."""
    with bench.open(task, [], seconds) as sampler:
        sampler.sample(DEFAULT)
        samples = tuple(sampler.sample(DEFAULT) for _ in range(3))
        return Entry(task.key, Kind.TRIAL, DEFAULT, "", "", samples, samples, label=task.label, state=sampler.state())


def _append(first: Timed, second: Timed, candidate: str) -> None:
    """Two sets of pairs are one record; one that was not finished is no second opinion."""
    if candidate in second.failed:
        first.failed[candidate] = second.failed[candidate]
    first.cut = second.cut
    first.samples[candidate] += second.samples.get(candidate, [])
    first.baseline[candidate] += second.baseline.get(candidate, [])


def _finals_seconds(entries: Iterable[Entry]) -> float:
    """What finals of a kernel take whose ``entries`` are known; 0 for one of which nothing is."""
    known = next((entry.baseline for entry in entries if entry.baseline), ())
    return FINAL_SAMPLES * max(median(known), SHORTEST) if known else 0.0


def _ratios(entries: Iterable[Entry]) -> dict[str, float]:
    """Candidate -> median ratio of its latest record; 0 for one that gave no time."""
    found = {}
    for entry in entries:
        if entry.candidate != DEFAULT:
            pairs = ratios(entry.baseline, entry.samples)
            found[entry.candidate] = median(pairs) if pairs else 0.0
    return found


__all__ = ["BATCH", "Bench", "NoTimeError", "Progress", "Search", "Task", "time_default"]
