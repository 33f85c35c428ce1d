"""Kernel calls that come as a stream of records, from a process or a board: see runtime/emulate/trace_records.h."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from tvm_flow.plan.folds import Floats
from tvm_flow.run import TracedCall

_RECORD, _TENSOR = struct.Struct("<6I"), struct.Struct("<BBHI8q")
_CALL, _STEP, _RESULT = range(3)
_KINDS = {0: "i", 1: "u", 2: "f"}


class CallStream(Protocol):
    """Where the records come from."""

    def read(self, count: int) -> bytes:
        """So many bytes; fails when there are no more."""

    def finish(self) -> None:
        """Wait for the end, which must be a success too."""

    def fail(self, got: str) -> NoReturn:
        """Raise BuildError: what came instead of a run to its end, and why as far as the other side says it."""


def follow_calls(stream: CallStream, on_call: Callable[[TracedCall], object], on_step: Callable[[], object]) -> Floats:
    """What a run gives, flat; empty for one that only compares. Raises BuildError, and what a callback raises."""
    while True:
        kind, step, branch, call, tensors, name_bytes = _RECORD.unpack(stream.read(_RECORD.size))
        if kind not in (_CALL, _STEP, _RESULT):
            stream.fail(f"a record of unknown kind {kind}")
        name = stream.read(name_bytes).decode()
        args = tuple(_tensor(stream) for _ in range(tensors))
        if kind == _CALL:
            on_call(TracedCall(step, branch, call, name, args))
        elif kind == _STEP:
            on_step()
        else:
            stream.finish()
            return np.asarray(args[0] if args else (), np.float32)


def timed(call: TracedCall) -> TracedCall:
    """A call of `tvm_flow.check.parts.Part.TIME` with its times, and no arguments."""
    (started, ended, own), device = (array.tolist() for array in call.args)
    times = {"started_ns": started, "ended_ns": ended, "device_ns": own if own >= 0 else None}
    return replace(call, args=(), device=bytes(device).decode(), **times)


def _tensor(stream: CallStream) -> npt.NDArray[Any]:
    code, bits, ndim, _, *extents = _TENSOR.unpack(stream.read(_TENSOR.size))
    shape, dtype = extents[:ndim], np.dtype(f"<{_KINDS[code]}{bits // 8}")
    return np.frombuffer(stream.read(prod(shape) * dtype.itemsize), dtype).reshape(shape)
