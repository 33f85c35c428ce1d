"""The figures that decide: order statistics that a spike cannot move, and intervals that hold what they promise."""

from __future__ import annotations

import math
import random

import pytest

from tvm_flow.tune.statistics import FEWEST_PAIRS, LEVEL, interval, lower_rank, median, ratios, spread, steady

N = 21


def test_the_median_ignores_a_spike() -> None:
    assert median([1.0, 1.1, 9.0]) == 1.1


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_sample_that_cannot_be_makes_the_figure_unknown(bad: float) -> None:
    assert math.isnan(median([1.0, bad]))
    assert math.isnan(spread([1.0, bad]))
    assert ratios([1.0, 1.0], [1.0, bad]) == []
    assert not interval([2.0] * N, [1.0] * (N - 1) + [bad]).wins


def test_the_spread_is_the_quartiles_distance_by_the_median() -> None:
    assert spread([1, 2, 3, 4, 5]) == pytest.approx(2 / 3)
    assert spread([7.0]) == 0.0


def test_a_sure_gain_wins_and_a_tie_does_not() -> None:
    assert interval([1.1] * N, [1.0] * N).wins
    assert not interval([1.0] * N, [1.0] * N).wins
    assert not interval([0.9] * N, [1.0] * N).wins


def test_few_pairs_win_nothing() -> None:
    assert not interval([2.0] * (FEWEST_PAIRS - 1), [1.0] * (FEWEST_PAIRS - 1)).wins


def test_a_gain_that_no_tile_gives_is_a_fault_of_the_clock() -> None:
    assert not interval([1.0] * N, [1e-9] * N).wins


def test_spikes_on_the_default_do_not_make_a_gain() -> None:
    assert not interval([2.0] * 8 + [1.0] * (N - 8), [1.001] * N).wins


def test_the_interval_of_an_even_number_leaves_the_best_pair_out() -> None:
    assert interval([1.1] * N + [50.0], [1.0] * (N + 1)) == interval([1.1] * N, [1.0] * N)


def test_the_rank_is_that_of_a_resampled_median() -> None:
    """Against drawing: the k-th of n values is at or above the median of a resample about as often as P(k) says."""
    rng, n, draws = random.Random(7), 15, 20_000
    medians = [sorted(rng.randrange(n) for _ in range(n))[n // 2] for _ in range(draws)]
    rank = lower_rank(n, 0.05)
    assert sum(m < rank for m in medians) / draws >= 0.05 - 0.006
    assert sum(m < rank - 1 for m in medians) / draws < 0.05 + 0.006


def test_equal_kernels_seldom_win() -> None:
    """The bound is missed no more often than about `LEVEL`, whatever the noise's shape: here it has a long tail."""
    rng, searches = random.Random(1), 6000

    def sample() -> float:
        return 1.0 + rng.expovariate(20.0) + (1.0 if rng.random() < 0.05 else 0.0)

    wins = sum(interval([sample() for _ in range(N)], [sample() for _ in range(N)]).wins for _ in range(searches))
    assert wins <= searches * LEVEL * 4


def test_a_round_is_steady_within_three_percent_either_way() -> None:
    assert steady(1.0, 1.029)
    assert steady(1.029, 1.0)
    assert not steady(1.0, 1.04)
    assert not steady(1.04, 1.0)
    assert not steady(1.0, math.nan)
