"""A velocity of two bundles of one model in turns: how much faster one is, on a busy machine too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.pack import read_golden
from tvm_flow.run import Bundle
from tvm_flow.tune.statistics import FEWEST_PAIRS, Interval, interval, median

FEWEST = FEWEST_PAIRS + 1


@dataclass(frozen=True)
class Turns:
    """Milliseconds of a velocity, and the interval of default / tuned."""

    default_ms: float
    tuned_ms: float
    gain: Interval

    @classmethod
    def same(cls, seconds: float) -> Turns:
        """Of two bundles that are one."""
        return cls(seconds * 1e3, seconds * 1e3, Interval(1.0, 1.0, 1.0))


def velocity_seconds(bundle: Path, threads: int) -> float:
    """Of the second call."""
    with Bundle.open(bundle, threads=threads, unchecked=True) as opened:
        call = _velocity(opened, bundle)
        call()
        return call()


def in_turns(paths: tuple[Path, Path], threads: int, most: int, seconds: float) -> Turns:
    """Both bundles ``most`` times, or as often as ``seconds`` allow, at least `FEWEST`; the first does not count."""
    end, times = time.monotonic() + seconds, (list[float](), list[float]())
    with (
        Bundle.open(paths[0], threads=threads, unchecked=True) as one,
        Bundle.open(paths[1], threads=threads, unchecked=True) as other,
    ):
        calls = (_velocity(one, paths[0]), _velocity(other, paths[1]))
        for number in range(most):
            if number >= FEWEST and time.monotonic() > end:
                break
            for which in (0, 1) if number % 2 else (1, 0):
                times[which].append(calls[which]())
    base, tuned = (each[1:] for each in times)
    return Turns(median(base) * 1e3, median(tuned) * 1e3, interval(base, tuned))


def _velocity(bundle: Bundle, path: Path) -> Callable[[], float]:
    """What runs a velocity and says how long it took."""
    golden = read_golden(path)

    def call() -> float:
        start = time.perf_counter()
        bundle.velocity(0, 0, golden.noise, golden.cond)
        return time.perf_counter() - start

    return call
