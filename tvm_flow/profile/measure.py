"""Runs the golden input of a bundle and keeps how long every call took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from tvm_flow.errors import ConfigError
from tvm_flow.pack import read_golden
from tvm_flow.pack.format import STEPS
from tvm_flow.pack.index import Index, read_index
from tvm_flow.plan.described import DescribedCall
from tvm_flow.profile.call_names import read_calls
from tvm_flow.run import Bundle, TracedCall

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


class _Enough(Exception):
    """The steps that were asked for are done."""


def timed_calls(asked: Profiled) -> tuple[list[TimedCall], int]:
    """Every call of the first steps in the order in which they ran, and the threads that ran them.

    Raises ConfigError for a machine that has no clock of its own, BundleError or RuntimeFailure when it cannot run.
    """
    if asked.on != HERE:
        raise ConfigError(f"machine {asked.on!r}: expected {HERE}, whose clock is read; an emulator's time is its own")
    golden, index = read_golden(asked.bundle), read_index(asked.bundle / STEPS)
    what, seen = _described(asked.bundle, index), list[TimedCall]()
    with Bundle.open(asked.bundle, threads=asked.threads, unchecked=asked.unchecked) as bundle:

        def keep(call: TracedCall) -> None:
            own = call.device_ns is not None
            taken = call.ended_ns - call.started_ns if call.device_ns is None else call.device_ns
            where = (call.step, call.branch, call.kernel, call.device)
            seen.append(TimedCall(*where, call.started_ns, taken, what(call), own))

        def done(steps: int, _total: int) -> None:
            if steps >= asked.steps:
                raise _Enough

        try:
            with bundle.trace(keep):
                bundle.generate(golden.noise, golden.cond, golden.uncond, done)
        except _Enough:
            pass
        return seen, bundle.info.threads


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
