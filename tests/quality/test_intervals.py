"""Intervals cover what they should, and equivalence needs evidence."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_flow.quality.intervals import equivalence, interval, seed_noise, table


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for k in range(40):
        scores = 3 + rng.normal(size=(60, 1)) + 0.5 * rng.normal(size=(60, 8)) + 0.2 * rng.normal(size=(1, 8))
        found = interval(scores, seed=k)
        hits += found.low <= 3 <= found.high
    assert hits >= 34, "95 percent of 40 are 38; less than 34 come by chance in under 2 percent of runs"


def test_noise_of_seeds_widens_an_interval_that_prompts_alone_would_not() -> None:
    seeds = np.array([[0.0, 1.0, 2.0, 9.0]]) + np.zeros((50, 1))
    found = interval(seeds)
    assert found.low < 1.5 and found.high > 5


def test_equal_scores_are_equivalent_and_few_noisy_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(60, 3))
    assert equivalence(base, base, 0.01).equivalent
    noisy = equivalence(base[:4] + rng.normal(size=(4, 3)), base[:4], 0.1)
    assert not noisy.equivalent, "no significant difference is no evidence of equality"
    worse = equivalence(base - 1, base, 0.1)
    assert not worse.equivalent and not worse.not_below
    better = equivalence(base + 1, base, 0.1)
    assert not better.equivalent and better.not_below


def test_missing_pairs_do_not_count() -> None:
    scores = table({("a", 1): 1.0, ("b", 1): 3.0, ("b", 2): 5.0})
    assert scores.shape == (2, 2) and np.isnan(scores[0, 1])
    assert interval(scores).mean == pytest.approx(3)


def test_seed_noise_is_the_spread_within_prompts() -> None:
    rng = np.random.default_rng(2)
    scores = 100 * rng.normal(size=(400, 1)) + 0.5 * rng.normal(size=(400, 4))
    assert seed_noise(scores) == pytest.approx(0.5, rel=0.05)
    assert np.isnan(seed_noise(scores[:, :1]))
