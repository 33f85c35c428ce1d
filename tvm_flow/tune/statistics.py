"""What samples say, as pure functions: no clock, no random numbers, the same samples give the same verdict.

The time of a kernel is the median of its samples. Candidate c is compared with candidate 0 by paired samples, taken one
after the other in one round, so that what changes slowly (heat, frequency, a neighbour) hits both:

    r_i = baseline_i / sample_i            above 1: the candidate is faster
    ratio = median of r_i

The interval is that of the bootstrap, whose distribution for a median is known exactly (B. Efron 1979; nothing is drawn
at random): of n resampled values more than half lie at or below the k-th smallest r with probability

    P(k) = P(Binomial(n, k / n) >= (n + 1) / 2)                               n odd

so the lower bound at level ``a`` is the smallest r_(k) with P(k) >= a, the upper one the mirror image. Whether two
medians differ at all is then a question of order alone: a spike of any size counts as one sample.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.0005
"""Probability that a bound is missed on its side. A winner passes two independent intervals: 2.5e-7 for its two rounds
of pairs, so that a search over many kernels and candidates ships none by chance."""
FEWEST_PAIRS = 15
"""With fewer pairs the lower bound at `LEVEL` would be the smallest ratio of all, or not exist."""
STEADY = 0.03
"""A round counts when candidate 0 moved by no more than this between its start and its end."""
IMPLAUSIBLE = 16.0
"""No choice of tiles gains so much over the default: a larger ratio is a fault of the measurement."""


@dataclass(frozen=True)
class Interval:
    """Ratio of candidate 0's time to a candidate's, with its bounds."""

    ratio: float
    low: float
    high: float

    @property
    def wins(self) -> bool:
        """Surely faster than the default; ties keep the default."""
        return self.low > 1.0 and self.high <= IMPLAUSIBLE

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


NO_GAIN = Interval(0.0, 0.0, 0.0)
"""The verdict on samples that say nothing."""


def usable(samples: Sequence[float]) -> bool:
    """True when all samples are finite and above zero, and there is one."""
    return bool(samples) and all(math.isfinite(sample) and sample > 0 for sample in samples)


def median(samples: Sequence[float]) -> float:
    """The time of a kernel; NaN for samples that are not `usable`."""
    return statistics.median(samples) if usable(samples) else math.nan


def spread(samples: Sequence[float]) -> float:
    """(q3 - q1) / median, quartiles as in R's type 7; NaN for samples that are not `usable`, 0 for a single one."""
    if not usable(samples):
        return math.nan
    if len(samples) == 1:
        return 0.0
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return (third - first) / statistics.median(samples)


def ratios(baseline: Sequence[float], samples: Sequence[float]) -> list[float]:
    """r of the module's formula, pair by pair; empty when a sample is not usable or has no partner."""
    if len(baseline) != len(samples) or not usable(baseline) or not usable(samples):
        return []
    return [base / sample for base, sample in zip(baseline, samples, strict=True)]


def interval(baseline: Sequence[float], samples: Sequence[float], level: float = LEVEL) -> Interval:
    """The module's interval; `NO_GAIN` for fewer than `FEWEST_PAIRS` pairs, or for samples that are not usable."""
    found = sorted(ratios(baseline, samples))
    if len(found) % 2 == 0:  # the formula is for odd n: the middle decides alone
        found = found[:-1]  # without the largest, which speaks for the candidate
    if len(found) < FEWEST_PAIRS:
        return NO_GAIN
    rank = lower_rank(len(found), level)
    return Interval(found[len(found) // 2], found[rank - 1], found[-rank])


def steady(before: float, after: float) -> bool:
    """True when candidate 0 took about as long after a round as before it: |after / before - 1| <= `STEADY`."""
    return usable([before, after]) and max(before, after) / min(before, after) <= 1 + STEADY


@lru_cache
def lower_rank(count: int, level: float) -> int:
    """The smallest k, from 1, with P(k) >= ``level``; ``count`` is odd."""
    most = (count + 1) // 2
    return next(k for k in range(1, most + 1) if _at_least(most, count, k / count) >= level)


def _at_least(least: int, count: int, p: float) -> float:
    """P(Binomial(count, p) >= least)."""
    return sum(math.comb(count, i) * p**i * (1 - p) ** (count - i) for i in range(least, count + 1))
