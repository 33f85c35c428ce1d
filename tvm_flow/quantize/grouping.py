"""Steps to a few contiguous groups that share their tables: the exact optimum of a summed cost, by dynamic programming.

quality.md calls it step groups; HTG (arXiv 2503.06930) joins steps by clustering instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Groups = NDArray[np.int64]


def contiguous_groups(cost: Doubles, count: int) -> Groups:
    """int64 [T]: the group of each step, 0 to ``count`` - 1, at the least sum of ``cost[first, last]`` over the groups.

    ``cost`` [T, T] is that of one group from a first to a last step, both included; O(T^2 count).
    """
    steps = len(cost)
    best = np.full((count + 1, steps + 1), np.inf)
    best[0, 0] = 0.0
    begins = np.zeros((count + 1, steps + 1), np.int64)
    for groups in range(1, count + 1):
        for end in range(groups, steps + 1):
            totals = best[groups - 1, :end] + cost[:end, end - 1]
            begins[groups, end] = int(totals.argmin())
            best[groups, end] = totals[begins[groups, end]]
    found, end = np.zeros(steps, np.int64), steps
    for groups in range(count, 0, -1):
        begin = int(begins[groups, end])
        found[begin:end] = groups - 1
        end = begin
    return found


def widening_cost(widths: Doubles, factors: Doubles, errors: Doubles) -> Doubles:
    """[T, T]: what the steps of a layer lose together when those from a first to a last share the widest range.

    ``widths`` [T] of each step's own range; ``errors`` [T, F] at ``factors`` [F] (rising from 1) times it, looked up
    on a log-log line between them. Both branches of a layer are two calls.
    """
    steps, logs, log_factors = len(widths), np.log(np.maximum(errors, 1e-300)), np.log(factors)
    cost = np.zeros((steps, steps))
    for first in range(steps):
        for last in range(first, steps):
            part = slice(first, last + 1)
            wider = np.log(widths[part].max() / widths[part])
            cost[first, last] = sum(
                np.exp(np.interp(x, log_factors, row)) for x, row in zip(wider, logs[part], strict=True)
            )
    return cost
