"""What a kernel read and wrote, as numpy arrays over the runtime's own memory."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import RuntimeFailure
from tvm_flow.run.native import CKernelCall, CView

_KINDS = {0: "i", 1: "u", 2: "f"}
NO_CLOCK = 2**64 - 1
"""TVM_FLOW_NO_CLOCK."""


@dataclass(frozen=True)
class TracedCall:
    """One finished kernel call.

    ======  ===========================================================================================
    step    index of the denoising step; of the one before which it runs for a call of the prologue
    branch  0 conditional, 1 unconditional
    call    position in the group's plan
    kernel  its name in the library
    args    read-only arrays in the kernel's order, the last one written by it; memory of the runtime,
            overwritten by later kernels: copy what is needed after the callback
    device  the backend whose part of the runtime ran it
    ======  ===========================================================================================

    ``started_ns`` and ``ended_ns`` are of one clock that never goes back; both 0 where nobody measured. ``device_ns``
    is what the call took by the device's own clock, without what it takes to hand it over; None where it has none.
    """

    step: int
    branch: int
    call: int
    kernel: str
    args: tuple[NDArray[Any], ...]
    device: str = "cpu"
    started_ns: int = 0
    ended_ns: int = 0
    device_ns: int | None = None


def kernel_call(seen: CKernelCall) -> TracedCall:
    """Wrap the runtime's structure without copying. Raises RuntimeFailure for a type that numpy lacks."""
    args = tuple(_array(seen.args[i]) for i in range(seen.num_args))
    own = None if seen.device_ns == NO_CLOCK else seen.device_ns
    device, times = seen.device.decode(), (seen.started_ns, seen.ended_ns, own)
    return TracedCall(seen.step, seen.branch, seen.call, seen.kernel.decode(), args, device, *times)


def _array(view: CView) -> NDArray[Any]:
    code = f"{_KINDS[view.dtype_code]}{view.dtype_bits // 8}"
    try:
        dtype = np.dtype(code)
    except TypeError as error:
        raise RuntimeFailure(f"trace: expected a type that numpy has, got {code}; trace another kernel") from error
    shape = tuple(view.shape[: view.ndim])
    count = int(np.prod(shape, dtype=np.int64))
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(view.data)
    array: NDArray[Any] = np.frombuffer(memoryview(memory).cast("B"), dtype).reshape(shape)
    array.flags.writeable = False
    return array
