"""The first kernel that makes NaN or an infinity out of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_flow.run.trace import TracedCall


class FoundError(Exception):
    """Ends a run at the kernel that was looked for."""


class NotFiniteFinder:
    """To be shown every kernel call of a run; raises `FoundError` at the first that is at fault, with its name.

    A mask holds infinities by right: a kernel that reads one may write some. NaN out of anything else is a fault.
    """

    def __call__(self, call: TracedCall) -> None:
        """Look through what ``call`` wrote."""
        *read, written = call.args
        if not _floats(written) or np.isfinite(written).all():
            return
        given = [array for array in read if _floats(array)]
        at_fault = all(np.isfinite(array).all() for array in given)
        if np.isnan(written).any():
            at_fault = not any(np.isnan(array).any() for array in given)
        if at_fault:
            raise FoundError(_words(call, written))


def _floats(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f"


def _words(call: TracedCall, written: NDArray[Any]) -> str:
    at = tuple(int(i) for i in np.argwhere(~np.isfinite(written))[0])
    return (
        f"the first kernel that makes one is {call.kernel} at step {call.step}, branch {call.branch}, call {call.call} "
        f"of its plan: element {at} of {written.shape} is {written[at]}"
    )
