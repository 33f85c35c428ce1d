"""How candidates are timed: rounds that start and end with candidate 0, a race, and pairs against candidate 0.

    round       candidate 0, every candidate that is alive, candidate 0 again; repeated when candidate 0 moved by more
                than 3 % between its two samples (`statistics.steady`), for then the others moved too
    race        a round at a time; after each the slowest is dropped, and what is far behind; two stay alive
    finals      `PAIRS` rounds with a few finalists, the order turned round every time, so that none always comes first;
                each sample is paired with the mean of candidate 0 before and after it
    confirmed   the best finalist again, alone with candidate 0, for as many rounds

The first sample of each, which finds caches and branch predictors cold, is dropped. A finalist leaves as soon as it
cannot win any more: when so many of its pairs are no gain that the lower bound is one of them. Where the time is up
(``late``), no other round begins, and what a race or finals had so far is all that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tvm_flow.tune.entries import DEFAULT, Json
from tvm_flow.tune.statistics import LEVEL, Interval, interval, lower_rank, median, ratios, steady, usable

SHORTEST = 2e-3
"""Seconds of a sample: shorter kernels are timed in batches."""
PAIRS = 21
"""Rounds of the finals; odd."""
FINALISTS = 4
ALIVE = 2
"""So many end a race, however slow."""
FEWEST_ROUNDS = 2
"""Before anything is dropped."""
BEHIND = 1.5
"""A candidate so many times slower than the best one of a race is dropped at once."""
REPEATS = 6
"""Of a round that is not steady; then it is given up."""


def never() -> bool:
    """No time is ever up."""
    return False


class NoTimeError(Exception):
    """A candidate gave no time: it did not compile, was wrong, hung or ended the process. Says why."""


class LateError(Exception):
    """The time was up before anything could be timed."""


class Sampler(Protocol):
    """Kernels of one task that can be run."""

    def sample(self, candidate: str) -> float:
        """Seconds of a call of ``candidate`` (`DEFAULT`: candidate 0) now; raises NoTimeError."""

    def state(self) -> dict[str, Json]:
        """The machine's, now; see `tvm_flow.tune.machine_state`."""


@dataclass
class Timed:
    """Paired samples by candidate, why others gave none, and how many rounds were repeated because of the machine."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    baseline: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    states: list[dict[str, Json]] = field(default_factory=list)
    """The machine's at the end of every round, repeated ones too."""
    repeated: int = 0
    given_up: int = 0
    cut: bool = False
    """It had no time for all of its rounds."""

    def ratio(self, candidate: str) -> float:
        """Median of candidate 0's time by the candidate's; 0 for one without samples."""
        found = ratios(self.baseline.get(candidate, []), self.samples.get(candidate, []))
        return median(found) if found else 0.0

    def interval(self, candidate: str) -> Interval:
        """See `tvm_flow.tune.statistics.interval`."""
        return interval(self.baseline.get(candidate, []), self.samples.get(candidate, []))

    def ranked(self, candidates: Iterable[str]) -> list[str]:
        """Fastest first."""
        return sorted(candidates, key=lambda each: (-self.ratio(each), each))

    def add(self, samples: Mapping[str, float], base: float) -> None:
        """A round."""
        for candidate, sample in samples.items():
            self.samples.setdefault(candidate, []).append(sample)
            self.baseline.setdefault(candidate, []).append(base)


def race(sampler: Sampler, candidates: Sequence[str], late: Callable[[], bool] = never) -> Timed:
    """Samples of all ``candidates``, of the faster ones more; raises NoTimeError when candidate 0 gives no time."""
    timed = Timed()
    alive = _warm(sampler, candidates, timed)
    rounds = 0
    while alive and (rounds < FEWEST_ROUNDS or len(alive) > ALIVE) and not timed.cut:
        _round(sampler, alive, timed, late)
        rounds += 1
        alive = [each for each in alive if each not in timed.failed]
        if rounds >= FEWEST_ROUNDS:
            alive = _survivors(timed, alive)
    return timed


def _survivors(timed: Timed, alive: Sequence[str]) -> list[str]:
    """Without the slowest and what is far behind, but for two."""
    ranked = timed.ranked(alive)
    best = timed.ratio(ranked[0]) if ranked else 0.0
    return ranked[:ALIVE] + [each for each in ranked[ALIVE:-1] if timed.ratio(each) * BEHIND >= best]


def finals(sampler: Sampler, finalists: Sequence[str], pairs: int = PAIRS, late: Callable[[], bool] = never) -> Timed:
    """Paired samples of ``finalists``; raises NoTimeError when candidate 0 gives no time."""
    timed = Timed()
    alive = _warm(sampler, finalists, timed)
    losses = lower_rank(pairs, LEVEL)
    for number in range(pairs):
        if not alive or timed.cut:
            break
        _round(sampler, alive if number % 2 == 0 else alive[::-1], timed, late)
        alive = [each for each in alive if each not in timed.failed and _no_gains(timed, each) < losses]
        alive = alive[1:] + alive[:1]
    return timed


def _no_gains(timed: Timed, candidate: str) -> int:
    return sum(ratio <= 1.0 for ratio in ratios(timed.baseline.get(candidate, []), timed.samples.get(candidate, [])))


def _warm(sampler: Sampler, candidates: Sequence[str], timed: Timed) -> list[str]:
    """Those of ``candidates`` that run; their first samples are dropped."""
    sampler.sample(DEFAULT)
    return [each for each in candidates if _try(sampler, each, timed) is not None]


def _round(sampler: Sampler, alive: Sequence[str], timed: Timed, late: Callable[[], bool]) -> None:
    """One steady round, or none."""
    for _ in range(REPEATS):
        if late():
            timed.cut = True
            return
        before = sampler.sample(DEFAULT)
        found = {each: sample for each in alive if (sample := _try(sampler, each, timed)) is not None}
        after = sampler.sample(DEFAULT)
        timed.states.append(sampler.state())
        if steady(before, after):
            timed.add(found, (before + after) / 2)
            return
        timed.repeated += 1
        alive = list(found)
    timed.given_up += 1


def _try(sampler: Sampler, candidate: str, timed: Timed) -> float | None:
    try:
        sample = sampler.sample(candidate)
    except NoTimeError as error:
        timed.failed[candidate] = str(error)
        return None
    if not usable([sample]):
        timed.failed[candidate] = f"it was said to take {sample} s"
        return None
    return sample
