"""Means over prompts and seeds with their intervals, and equivalence as a claim that is tested.

Scores lie in a table of prompts and seeds, where the same seed is the same noise under every prompt. The bootstrap
draws prompts and seeds anew, both, so that an interval speaks of other prompts and other noise.

Equivalence (two one-sided tests at 5 percent, Schuirmann 1987): the 90 percent interval of the mean difference lies
within plus and minus the margin. A difference that is merely not significant proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

DRAWS = 2000
CONFIDENCE, TOST_CONFIDENCE = 0.95, 0.90


@dataclass(frozen=True)
class Interval:
    """A mean, and where it lies with the stated confidence."""

    mean: float
    low: float
    high: float

    def rounded(self, digits: int = 4) -> list[float]:
        """For a JSON line."""
        return [round(self.mean, digits), round(self.low, digits), round(self.high, digits)]


@dataclass(frozen=True)
class Equivalence:
    """Whether ``difference`` lies within ``margin`` on both sides, and whether it is not below minus ``margin``."""

    difference: Interval
    margin: float

    @property
    def equivalent(self) -> bool:
        return -self.margin < self.difference.low and self.difference.high < self.margin

    @property
    def not_below(self) -> bool:
        """One-sided: by no more than the margin."""
        return -self.margin < self.difference.low


def table(values: dict[tuple[str, int], float]) -> Doubles:
    """[prompts, seeds] of values by (prompt, seed); pairs that are missing are NaN, and do not count."""
    prompts = sorted({prompt for prompt, _ in values})
    seeds = sorted({seed for _, seed in values})
    return np.array([[values.get((prompt, seed), np.nan) for seed in seeds] for prompt in prompts])


def interval(scores: Doubles, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Of the mean of ``scores`` [P, S], by a percentile bootstrap over both axes; the same for the same scores."""
    rng, means = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        rows = rng.integers(0, scores.shape[0], scores.shape[0])
        columns = rng.integers(0, scores.shape[1], scores.shape[1])
        drawn = scores[np.ix_(rows, columns)]
        if np.isfinite(drawn).any():
            means.append(float(np.nanmean(drawn)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(np.nanmean(scores)), float(low), float(high))


def equivalence(ours: Doubles, reference: Doubles, margin: float) -> Equivalence:
    """Of the mean of ``ours`` to that of ``reference``, paired: both [P, S] of the same prompts and seeds."""
    return Equivalence(interval(ours - reference, TOST_CONFIDENCE), margin)


def seed_noise(scores: Doubles) -> float:
    """Standard deviation of a score between seeds of the same prompt, pooled over prompts; NaN of a single seed."""
    enough = np.isfinite(scores).sum(1) > 1
    if not enough.any():
        return float("nan")
    return float(np.sqrt(np.nanvar(scores[enough], axis=1, ddof=1).mean()))
