"""How near a call comes to what binds it: the core's multiplications, or its memory.

    least = max(MACs / peak MAC/s, bytes / peak bytes/s)        share = least / time

Peaks are measured here, when they are first asked for, on one thread: of the instruction that a product was compiled
for, of the widest float instruction, and of copies between two arrays larger than the caches. All threads together are
taken to do so many times as much, which memory does not quite; a share above 1 is a tensor that was still in a cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from tvm_flow.errors import BuildError
from tvm_flow.profile.peak import FLOAT, instruction_meter

COPIED = 1 << 26
ROUNDS = 5
INTEGER = "integer product"


@dataclass(frozen=True)
class Peaks:
    """Of one core: multiply-adds a second by instruction (None: not known), and bytes a second (0: not known)."""

    macs: Callable[[str], float | None]
    bytes: float


@dataclass(frozen=True)
class Bound:
    """What binds a call, "compute" or "memory", and the share of it that was reached."""

    by: str
    share: float


def bound(macs: int, moved: int, seconds: float, peaks: Peaks, instructions: str) -> Bound | None:
    """Of a call that one core would take ``seconds`` for; None where a peak is not known."""
    peak = peaks.macs(instructions) if macs else 1.0
    if peak is None or seconds <= 0 or not peaks.bytes:
        return None
    compute, memory = macs / peak, moved / peaks.bytes
    return Bound("compute" if compute >= memory else "memory", max(compute, memory) / seconds)


def peaks_here(features: frozenset[str]) -> Peaks:
    """Those of this machine, for code compiled for ``features``."""
    float_name = next((name for name in FLOAT if name in features), "")

    @cache
    def macs(instructions: str) -> float | None:
        try:
            meter = instruction_meter(instructions or float_name)
        except BuildError:
            return None
        return max(meter() for _ in range(ROUNDS)) * 1e9

    return Peaks(macs, _copy_rate())


UNKNOWN = Peaks(lambda _: None, 0.0)
"""Of a machine on which nobody measured: times are all there is."""


def known_peaks(macs: Mapping[str, float], moved: float) -> Peaks:
    """Peaks that somebody measured."""
    return Peaks(macs.get, moved)


def _copy_rate() -> float:
    source, target, best = np.ones(COPIED, np.int8), np.zeros(COPIED, np.int8), float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * COPIED / best
