"""A search without hardware: candidates take the times that a store has of them, again and again in the same order.

What a strategy would have found with fewer trials, or another one with as many, is then a matter of milliseconds; and
tests of the search need no machine that holds still. A candidate without samples cannot be run.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tvm_flow.tune.entries import DEFAULT, Entry, Json
from tvm_flow.tune.rounds import NoTimeError, Sampler
from tvm_flow.tune.search import FirstOf, Search, Task, silent
from tvm_flow.tune.statistics import median
from tvm_flow.tune.verdicts import Verdict


@dataclass
class StoredBench:
    """A `tvm_flow.tune.search.Bench` over records of one key.

    Candidates were measured at different times; each one's samples are scaled by what the default took beside them, to
    a default that takes ``seconds``.
    """

    samples: dict[str, list[float]]
    seconds: float
    taken: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> StoredBench:
        """Raises NoTimeError when nothing was measured."""
        samples: dict[str, list[float]] = defaultdict(list)
        measured = [entry for entry in entries if entry.samples]
        if not measured:
            raise NoTimeError("the store has no samples of this kernel")
        seconds = median([time for entry in measured for time in entry.baseline])
        for entry in measured:
            if entry.candidate != DEFAULT:
                pairs = zip(entry.samples, entry.baseline, strict=True)
                samples[entry.candidate] += [seconds * sample / base for sample, base in pairs]
        return cls(dict(samples), seconds)

    @contextmanager
    def open(self, _task: Task, _candidates: Sequence[str], _seconds: float = math.inf) -> Iterator[Sampler]:
        """See `tvm_flow.tune.search.Bench`."""
        yield self

    def code(self, _task: Task, candidate: str) -> str:
        """See `tvm_flow.tune.search.Bench`."""
        return candidate or "default"

    def sample(self, candidate: str) -> float:
        """See `tvm_flow.tune.rounds.Sampler`."""
        if candidate == DEFAULT:
            return self.seconds
        if candidate not in self.samples:
            raise NoTimeError("the store has no samples of it")
        known = self.samples[candidate]
        self.taken[candidate] += 1
        return known[(self.taken[candidate] - 1) % len(known)]

    def state(self) -> dict[str, Json]:
        """See `tvm_flow.tune.rounds.Sampler`."""
        return {"replayed": True}


def replay(task: Task, entries: Sequence[Entry], trials: int, first: FirstOf = silent) -> Verdict:
    """What a search of ``task`` finds in ``trials``, were its times those of ``entries``; raises NoTimeError."""
    mine = [entry for entry in entries if entry.key == task.key]
    return Search(StoredBench.of(mine), lambda _entry: None, first=first).run(task, [], trials)


def curve(task: Task, entries: Sequence[Entry], trials: Sequence[int], first: FirstOf = silent) -> list[float]:
    """The ratio to the default that each number of ``trials`` would have found; 1 where nothing won."""
    found = (replay(task, entries, each, first) for each in trials)
    return [each.best.ratio if each.tuned else 1.0 for each in found]
