"""Contenders of one product on one core: those that are installed, agreeing with ours, timed in turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

DEEPEST = 4608
"""Products of the deepest sum of any bench, a 3x3 convolution of 512 channels."""
AGREEMENT = 5 * 2**0.5 * 6 * 2.0**-24 * (DEEPEST / 3) ** 0.5
"""Largest difference of two contenders whose outputs have variance 1 at most, 9.9e-5, in whatever order they add.

Each of K additions rounds by at most u = 2^-24 of the partial sum, by u / sqrt(3) of it in standard deviation. Partial
sums stay below 6, as normal numbers do, so that one contender is off by 6 u sqrt(K / 3) in standard deviation and two
differ by sqrt(2) of that. Of some million outputs none lies farther out than five of these: hardly a sum comes near 6.
Attention is nearer: scores of 72 products are off by 1.8e-6, which is the relative error of its weights, and its 1024
products with values below 6 add 6.6e-6. A contender that computes something else is off by 0.1 and more.
"""


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
