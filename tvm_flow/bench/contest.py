"""Contenders of one product on one core: those that are installed, agreeing with ours, timed in turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

AGREEMENT = 1e-4
"""Largest difference of outputs near 1: chosen to find a contender that computes something else, not derived."""


def contest(
    made: Mapping[str, Callable[[], Callable[[], object]]],
    macs: int,
    rounds: int,
    coarse: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """GMAC/s by name of each of ``made`` that is installed, the fastest of ``rounds``, in time of the processor.

    Making one raises ImportError where it is not installed; "ours" is what the others are compared with, those that
    are ``coarse``, as codes are, by what is said there.
    """
    runs: dict[str, Callable[[], object]] = {}
    for name, make in made.items():
        try:
            runs[name] = make()
        except ImportError:
            print(f"{name}: not installed", file=sys.stderr)
    first = np.array(runs["ours"]())
    for name, run in runs.items():
        error = float(np.abs(np.asarray(run()) - first).max())
        assert error < (coarse or {}).get(name, AGREEMENT), f"{name} computes something else: {error}"
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return {name: round(macs / taken / 1e9, 1) for name, taken in seconds.items()}
