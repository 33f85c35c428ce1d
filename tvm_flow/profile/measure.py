"""Runs the golden input of a bundle, here or on a board, and keeps how long every call took."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from math import prod
from pathlib import Path

from tvm_flow.check.call_stream import timed
from tvm_flow.check.parts import Part
from tvm_flow.errors import ConfigError
from tvm_flow.pack import read_golden, verify_bundle
from tvm_flow.pack.format import STEPS
from tvm_flow.pack.index import Index, read_index
from tvm_flow.pack.manifest import require_checked
from tvm_flow.pack.trust import Trust, verify_signature
from tvm_flow.plan.described import DescribedCall
from tvm_flow.profile.call_names import read_calls
from tvm_flow.run import Bundle, TracedCall
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import target_of
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_machine import BoardMachine

HERE = "host"


@dataclass(frozen=True)
class TimedCall:
    """One call as it ran; ``start`` is in ns of the runtime's clock, ``what`` says what it is.

    ``nanoseconds`` are by the clock of ``device`` itself where it has one (``own_clock``), else by the runtime's: what
    it takes to hand a call over is a part of them then.
    """

    step: int
    branch: int
    kernel: str
    device: str
    start: int
    nanoseconds: int
    what: DescribedCall
    own_clock: bool = False


@dataclass(frozen=True)
class Profiled:
    """Asked: so many ``steps`` of a bundle with so many ``threads`` (0: every core) on the machine ``on``."""

    bundle: Path
    steps: int = 1
    threads: int = 0
    on: str = HERE
    unchecked: bool = False
    board: Board | None = None
    """Where, instead of ``on``."""
    trust: Trust | None = None
    """Of `Bundle.open`."""


class _Enough(Exception):
    """The steps that were asked for are done."""


def timed_calls(asked: Profiled) -> tuple[list[TimedCall], int]:
    """Every call of the first steps in the order in which they ran, and the threads that ran them.

    Raises SignatureError for a bundle that is not signed as ``trust`` asks, ConfigError for a machine that has no clock
    of its own, BundleError or RuntimeFailure when it cannot run, BuildError when that is the board's fault.
    """
    if asked.trust is not None:
        verify_signature(asked.bundle, asked.trust)  # before anything of it is read
    if asked.board is not None:
        return _on_board(asked, asked.board)
    if asked.on != HERE:
        raise ConfigError(f"machine {asked.on!r}: expected {HERE}, whose clock is read; an emulator's time is its own")
    golden, (keep, seen) = read_golden(asked.bundle), _kept(asked.bundle)
    with Bundle.open(asked.bundle, threads=asked.threads, unchecked=asked.unchecked, trust=asked.trust) as bundle:

        def done(steps: int, _total: int) -> None:
            if steps >= asked.steps:
                raise _Enough

        with suppress(_Enough), bundle.trace(keep):
            bundle.generate(golden.noise, golden.cond, golden.uncond, done)
        return seen, bundle.info.threads


def _on_board(asked: Profiled, board: Board) -> tuple[list[TimedCall], int]:
    """The same on ``board``; what its system says that it has is taken for the threads when none are asked for."""
    manifest = verify_bundle(asked.bundle)
    require_checked(asked.bundle, manifest, asked.unchecked)
    (keep, seen), steps = _kept(asked.bundle), count(1)

    def step() -> None:
        if next(steps) >= asked.steps:
            raise _Enough

    machine = BoardMachine(board, target_of(manifest.target))
    with temporary_folder("board") as folder, closing(machine):
        machine.connect(folder)
        with suppress(_Enough):
            machine.trace(asked.bundle, Part.TIME, asked.threads, lambda call: keep(timed(call)), step)
        return seen, asked.threads or machine.cores


def _kept(bundle: Path) -> tuple[Callable[[TracedCall], None], list[TimedCall]]:
    """What keeps the times of calls of ``bundle``, and where."""
    what, seen = _described(bundle, read_index(bundle / STEPS)), list[TimedCall]()

    def keep(call: TracedCall) -> None:
        own = call.device_ns is not None
        taken = call.ended_ns - call.started_ns if call.device_ns is None else call.device_ns
        where = (call.step, call.branch, call.kernel, call.device)
        seen.append(TimedCall(*where, call.started_ns, taken, what(call), own))

    return keep, seen


def _described(bundle: Path, index: Index) -> Callable[[TracedCall], DescribedCall]:
    """What a call is: as the bundle says, or by its kernel and the sizes of its arguments where it does not."""
    groups = read_calls(bundle)
    names = [Path(library.path).stem for library in index.libraries]

    def what(call: TracedCall) -> DescribedCall:
        rows = groups.get(names[index.variants[call.step * index.branches + call.branch][0]], ())
        if call.call < len(rows):
            return rows[call.call]
        moved = sum(prod(array.shape) * array.itemsize for array in call.args)
        return DescribedCall(call.kernel, "unknown", 0, moved)

    return what
