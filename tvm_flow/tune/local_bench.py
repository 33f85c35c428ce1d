"""Kernels timed on this machine: `tvm_flow.tune.search.Bench` over programs of their own processes.

A candidate is run once before it is timed, and its output compared as `tvm_flow.tune.agreement` says; the default's is
compared with the integer reference once for each task.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tvm_flow.errors import BitExactError
from tvm_flow.graph.constants import Array
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.agreement import Right, first_right
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_program import BoardProcess, HeldBoard, Turn, link_board
from tvm_flow.tune.entries import DEFAULT, Json
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.race_program import RaceProcess, compile_candidates, link_race
from tvm_flow.tune.rounds import SHORTEST, LateError, NoTimeError, Sampler
from tvm_flow.tune.search import Task
from tvm_flow.tune.workloads import code_hash, scheduled

FIRST_TIMEOUT = 60.0
"""Seconds for the first call of the default, of which nothing is known."""
MULTIPLE = 10.0
"""A candidate that takes so many times as long as the default is given up."""
GRACE = 3.0
"""Seconds that any request may take: a busy machine may stop a process for so long."""


Start = Callable[[Sequence[Array]], RaceProcess | BoardProcess | Turn]
"""Starts a linked program with arguments for its kernels."""


@dataclass
class Costs:
    """Where the seconds of a tuning went."""

    compile: float = 0.0
    run: float = 0.0

    @contextmanager
    def spent(self, on: str) -> Iterator[None]:
        """Count the block as ``compile`` or ``run``."""
        start = time.monotonic()
        try:
            yield
        finally:
            setattr(self, on, getattr(self, on) + time.monotonic() - start)


@dataclass
class LocalBench:
    """See the module; ``kernels`` by workload, everything is made in ``folder``, compiled by ``workers`` processes.

    ``prefix`` starts programs of another architecture, as qemu: then times mean nothing, all else does.
    """

    kernels: dict[str, TunedKernel]
    target: TargetSpec
    threads: int
    workers: int
    folder: Path
    prefix: Sequence[str] = ()
    costs: Costs = field(default_factory=Costs)
    _codes: dict[tuple[str, str], str] = field(default_factory=dict)
    _known: dict[str, Right] = field(default_factory=dict)

    @contextmanager
    def open(self, task: Task, candidates: Sequence[str], seconds: float = math.inf) -> Iterator[Sampler]:
        """See `tvm_flow.tune.search.Bench`."""
        folder, names = self.folder / task.key.workload, {each: _name(task, each) for each in (DEFAULT, *candidates)}
        folder.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + seconds
        with self.costs.spent("compile"):
            failed = self._compile(task, names, folder, seconds)
            if DEFAULT in failed:
                raise NoTimeError(f"the default: {failed[DEFAULT]}")
            able = [each for each in names if each not in failed]
            start = self.program([names[each] for each in able], folder)
        with self.costs.spent("run"):
            _require_time(end)
            right = self._reference(task, start)
            sampler = LocalSampler(start(right.args), able, failed)
            try:
                sampler.start(right, end)
                yield sampler
            finally:
                sampler.process.close()

    def program(self, names: Sequence[str], folder: Path) -> Start:
        """Link the objects ``names`` of ``folder``; what starts them with arguments. Raises BuildError."""
        command = link_race(names, self.target, folder, self.prefix)
        return lambda args: RaceProcess(command, self.threads, args)

    def close(self) -> None:
        """Give back what it measures on."""

    def code(self, task: Task, candidate: str) -> str:
        """See `tvm_flow.tune.search.Bench`."""
        at = (task.key.workload, candidate)
        if at not in self._codes:
            kernel = self.kernels[task.key.workload]
            self._codes[at] = code_hash(scheduled(kernel.packed, kernel.kernel, candidate))
        return self._codes[at]

    def _compile(self, task: Task, names: dict[str, str], folder: Path, seconds: float) -> dict[str, str]:
        """Why by the candidate of each that has no object."""
        kernel = self.kernels[task.key.workload]
        make = {
            name: partial(scheduled, kernel.packed, kernel.kernel, each)
            for each, name in names.items()
            if not (folder / f"{name}.o").exists()
        }
        failed = compile_candidates(make, self.target, folder, self.workers, seconds)
        return {each: failed[name] for each, name in names.items() if name in failed}

    def _reference(self, task: Task, start: Start) -> Right:
        """Arguments, and the default's output for them, which the reference agrees with; raises NoTimeError."""
        if task.key.workload not in self._known:
            self._known.clear()  # of one task at a time: arguments are large
            self._known[task.key.workload] = _checked(self.kernels[task.key.workload], start)
        return self._known[task.key.workload]


@dataclass
class BoardBench(LocalBench):
    """The same on ``held``, or on any board of ``board`` that is free when a race starts."""

    board: Board | None = None
    held: HeldBoard | None = None

    def program(self, names: Sequence[str], folder: Path) -> Start:
        """See `LocalBench.program`."""
        library = link_board(names, self.target, folder)
        if (held := self.held) is not None:
            return lambda args: held.turn(library, self.threads, args)
        assert self.board is not None
        board = self.board
        return lambda args: BoardProcess(board, library, self.threads, args)

    def close(self) -> None:
        """See `LocalBench.close`."""
        if self.held is not None:
            self.held.close()


@dataclass
class LocalSampler:
    """A running program of ``able`` candidates, the default first."""

    process: RaceProcess | BoardProcess | Turn
    able: Sequence[str]
    failed: dict[str, str]
    calls: int = 1
    timeout: float = FIRST_TIMEOUT

    def start(self, right: Right, end: float = math.inf) -> None:
        """Compare every candidate's output with what is ``right``, and find out how many calls make a sample.

        Raises LateError where the clock shows ``end`` before all are compared.
        """
        once = self.process.seconds(0, 1, FIRST_TIMEOUT)
        once = min(once, self.process.seconds(0, 1, FIRST_TIMEOUT))
        self.timeout = MULTIPLE * once + GRACE
        for position, each in enumerate(self.able):
            _require_time(end)
            try:
                if why := right.why_not(each, self.process.output(position, self.timeout)):
                    self.failed[each] = why
            except NoTimeError as error:
                self.failed[each] = str(error)
        self.calls = max(1, math.ceil(SHORTEST / max(once, 1e-9)))
        self.timeout = MULTIPLE * max(once, SHORTEST) + GRACE

    def sample(self, candidate: str) -> float:
        """See `tvm_flow.tune.rounds.Sampler`."""
        if candidate in self.failed:
            raise NoTimeError(self.failed[candidate])
        return self.process.seconds(self.able.index(candidate), self.calls, self.timeout)

    def state(self) -> dict[str, Json]:
        """See `tvm_flow.tune.rounds.Sampler`."""
        return self.process.state()


def _require_time(end: float) -> None:
    if time.monotonic() >= end:
        raise LateError


def _name(task: Task, candidate: str) -> str:
    return "c0" if candidate == DEFAULT else f"c{1 + task.space.index(candidate)}"


def _checked(kernel: TunedKernel, start: Start) -> Right:
    """See `first_right`; raises NoTimeError."""

    def run(args: Sequence[Array]) -> bytes:
        process = start(args)
        try:
            return process.output(0, FIRST_TIMEOUT)
        finally:
            process.close()

    try:
        return first_right(kernel, run)
    except BitExactError as error:
        raise NoTimeError(str(error)) from error
