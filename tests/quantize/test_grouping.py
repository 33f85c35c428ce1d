"""Step groups are the best there are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.quantize.grouping import contiguous_groups, widening_cost


def value(cost: np.ndarray, groups: np.ndarray) -> float:
    ends = np.flatnonzero(np.diff(groups, append=-1))
    return float(sum(cost[a, b] for a, b in zip([0, *(ends[:-1] + 1)], ends, strict=True)))


@given(st.integers(1, 7), st.data())
def test_no_other_partition_costs_less(steps: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, steps))
    cost = np.random.default_rng(data.draw(st.integers(0, 99))).uniform(size=(steps, steps))
    groups = contiguous_groups(cost, count)
    assert groups[0] == 0 and groups[-1] == count - 1 and set(np.diff(groups)) <= {0, 1}
    for cuts in combinations(range(1, steps), count - 1):
        other = np.searchsorted(np.array(cuts), np.arange(steps), side="right")
        assert value(cost, groups) <= value(cost, other) + 1e-12


def test_steps_of_equal_width_cost_nothing_to_join_and_a_far_one_does() -> None:
    factors = np.geomspace(1, 64, 7)
    errors = np.tile(factors**2, (4, 1))
    cost = widening_cost(np.array([1.0, 1.0, 1.0, 8.0]), factors, errors)
    assert cost[0, 2] == pytest.approx(3)
    assert cost[0, 3] == pytest.approx(3 * 64 + 1)
    assert contiguous_groups(cost, 2).tolist() == [0, 0, 0, 1]
