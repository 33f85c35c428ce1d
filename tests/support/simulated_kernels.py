"""Kernels that take no time: a bench for `tvm_flow.tune.search` with a clock of its own, drift and spikes."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tvm_flow.tune.entries import DEFAULT, Json, Key, canonical
from tvm_flow.tune.rounds import LateError, NoTimeError, Sampler
from tvm_flow.tune.search import Task

KEY = Key("w", "x86_64-linux-gnu none", "", "none", "simulated")


@dataclass
class Noise:
    """A machine that drifts by ``drift`` and back every ``period`` seconds, and doubles a ``spikes`` share of times."""

    seed: int
    drift: float = 0.05
    spikes: float = 0.05
    jitter: float = 0.005
    period: float = 0.7
    now: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def __call__(self, seconds: float) -> float:
        """What a clock shows for a kernel that takes ``seconds``."""
        slow = 1 + self.drift * (0.5 + 0.5 * math.sin(2 * math.pi * self.now / self.period))
        spike = 2.0 if self.random.random() < self.spikes else 1.0
        self.now += (shown := seconds * slow * spike * (1 + abs(self.random.gauss(0, self.jitter))))
        return shown


@dataclass
class SimulatedBench:
    """``seconds`` by candidate, `DEFAULT` included; one that is not there, or raises, cannot be run."""

    seconds: Mapping[str, float]
    noise: Noise = field(default_factory=lambda: Noise(0, drift=0, spikes=0))
    raced: list[str] = field(default_factory=list)
    sampled: Counter[str] = field(default_factory=Counter)
    compiling: float = 0.0
    """Seconds of the clock for candidates to be compiled."""

    @contextmanager
    def open(self, _task: Task, candidates: Sequence[str], seconds: float = math.inf) -> Iterator[Sampler]:
        if self.compiling:
            self.noise.now += min(self.compiling, seconds)
        if self.compiling > seconds:
            raise LateError
        self.raced += candidates
        yield self

    def sample(self, candidate: str) -> float:
        self.sampled[candidate] += 1
        if candidate not in self.seconds:
            raise NoTimeError("it does not compile")
        return self.noise(self.seconds[candidate])

    def code(self, _task: Task, candidate: str) -> str:
        return f"code {candidate}"

    def state(self) -> dict[str, Json]:
        return {"simulated": True, "load": self.noise.now if isinstance(self.noise, Noise) else 0.0}


def choices(count: int) -> list[str]:
    """``count`` candidates."""
    return [canonical({"rows": rows}) for rows in range(1, count + 1)]


def simulated_task(space: Sequence[str]) -> Task:
    return Task(KEY, "a kernel", tuple(each for each in space if each != DEFAULT))
