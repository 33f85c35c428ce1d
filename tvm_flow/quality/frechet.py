"""The Frechet distance of two sets of features, and FVD to FP32 of scored videos.

    FVD = |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

with means m and covariances C (of n - 1) of the features of two sets of videos, as if both were Gaussian (Unterthiner
et al., arXiv 1812.01717). tr((C_a C_b)^(1/2)) is computed as the sum of the square roots of the eigenvalues of
C_a^(1/2) C_b C_a^(1/2), which has those of C_a C_b and is symmetric.

Sets: a recipe's videos and FP32's of the same prompts and seeds, as ViDiT-Q (arXiv 2406.02540) has FVD-FP16. Beside it
stands FP32's own noise: FP32 at the first half of the seeds to FP32 at the second, of half as many videos.

**How many videos.** A covariance of D features has full rank from D + 1 videos on: 401 for I3D. With fewer the distance
says more of their number than of the videos, and none is given. Also above it is biased upwards, the more the fewer
videos there are (the field takes 2048): compare only equal numbers, as a table here has them.

**Interval.** 95 percent, as the distance plus and minus 1.96 standard deviations of `DRAWS` bootstrap draws of prompts
and seeds, the same for both sets, from 0 up. Draws repeat videos and are biased upwards, so their spread counts, not
their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_flow.quality.intervals import Interval

Doubles = NDArray[np.float64]
Features = Mapping[tuple[str, int], Sequence[float]]
"""Of a video, by prompt and seed."""
DRAWS, Z = 40, 1.96


def frechet_distance(a: Doubles, b: Doubles) -> float:
    """Of features [N, D] and [M, D], N and M at least 2."""
    covariances = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b)]
    root = _root(covariances[0])
    mixed = np.linalg.eigvalsh(root @ covariances[1] @ root)
    traces = sum(float(np.trace(each)) for each in covariances)
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return float(apart + traces - 2 * np.sqrt(np.maximum(mixed, 0)).sum())


def least_videos(features: Features) -> int:
    """How many a set needs."""
    return len(next(iter(features.values()))) + 1


def fvd(ours: Features, exact: Features, seed: int = 0) -> Interval | None:
    """Between the videos that both have, or None for too few of them; the same for the same features."""
    both = sorted(pair for pair in ours if pair in exact)
    if not both or len(both) < least_videos(ours):
        return None
    a, b = (np.array([each[pair] for pair in both], dtype=np.float64) for each in (ours, exact))
    mean, rng = frechet_distance(a, b), np.random.default_rng(seed)
    draws = [_drawn(both, rng) for _ in range(DRAWS)]
    reach = Z * float(np.std([frechet_distance(a[rows], b[rows]) for rows in draws], ddof=1))
    return Interval(mean, max(0.0, mean - reach), mean + reach)


def fvd_between_seeds(exact: Features) -> float | None:
    """FP32 at the first half of its seeds to FP32 at the second; None for too few videos."""
    seeds = sorted({seed for _, seed in exact})
    first = set(seeds[: len(seeds) // 2])
    halves = [[row for (_, seed), row in exact.items() if (seed in first) is side] for side in (True, False)]
    if not exact or min(map(len, halves)) < least_videos(exact):
        return None
    return frechet_distance(*(np.array(half, dtype=np.float64) for half in halves))


def _root(matrix: Doubles) -> Doubles:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _drawn(pairs: Sequence[tuple[str, int]], rng: np.random.Generator) -> list[int]:
    """Rows of ``pairs``: prompts and seeds drawn anew, both, as `tvm_flow.quality.intervals` draws them."""
    rows = {pair: row for row, pair in enumerate(pairs)}
    prompts, seeds = (sorted(set(names)) for names in zip(*pairs, strict=True))
    some = rng.integers(0, len(prompts), len(prompts)), rng.integers(0, len(seeds), len(seeds))
    drawn = [rows.get((prompts[p], seeds[s])) for p in some[0] for s in some[1]]
    return [row for row in drawn if row is not None]
