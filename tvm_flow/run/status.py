"""Statuses of the C runtime as exceptions, with the causes that only this side of the call can see."""

from __future__ import annotations

from ctypes import Structure, c_char, c_int
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from tvm_flow.artifact import is_noexec
from tvm_flow.causes import Cause
from tvm_flow.errors import (
    BadSignatureError,
    BundleError,
    NotFiniteError,
    NotSignedError,
    OlderVersionError,
    RuntimeFailure,
    SignatureError,
    TvmFlowError,
    UnknownKeyError,
)


class Status(IntEnum):
    """tvm_flow_status."""

    OK = 0
    INVALID_ARGUMENT = 1
    FILE_ERROR = 2
    CORRUPT = 3
    WRONG_SCHEMA = 4
    WRONG_ABI = 5
    BAD_LIBRARY = 6
    WRONG_CPU = 7
    NO_MEMORY = 8
    NO_THREAD = 9
    KERNEL_FAILED = 10
    CANCELLED = 11
    NOT_GOLDEN = 12
    NO_DEVICE = 13
    BUSY = 14
    NOT_FINITE = 15
    FORKED = 16
    NOT_SIGNED = 17
    BAD_SIGNATURE = 18
    UNKNOWN_KEY = 19
    OLDER_VERSION = 20


_BUNDLE_FAULTS = {
    *(Status.FILE_ERROR, Status.CORRUPT, Status.WRONG_SCHEMA, Status.WRONG_ABI),
    *(Status.BAD_LIBRARY, Status.WRONG_CPU, Status.NOT_GOLDEN),
}
SIGNATURE_FAULTS: dict[int, type[SignatureError]] = {
    Status.NOT_SIGNED: NotSignedError,
    Status.BAD_SIGNATURE: BadSignatureError,
    Status.UNKNOWN_KEY: UnknownKeyError,
    Status.OLDER_VERSION: OlderVersionError,
}


MESSAGE_BYTES = 508


class CError(Structure):
    """tvm_flow_error."""

    _fields_: ClassVar = [("status", c_int), ("message", c_char * MESSAGE_BYTES)]


def as_exception(directory: Path, error: CError, cause: Cause = Cause.NONE) -> TvmFlowError:
    """BundleError when the bundle is at fault, RuntimeFailure otherwise; ``cause`` is tvm_flow_cause_of the error.

    The message is the runtime's own, unless the machine explains what the runtime could only see the effect of.
    """
    if error.status == Status.BAD_LIBRARY and is_noexec(directory):
        return RuntimeFailure(
            f"{directory}: expected a file system whose programs may run, got one that is mounted noexec; copy the "
            "bundle to another one, or mount it with exec",
            Cause.NOEXEC,
        )
    words = f"{directory}: {error.message.decode(errors='replace')}"
    if unsigned := SIGNATURE_FAULTS.get(error.status):
        return unsigned(words)
    if error.status in _BUNDLE_FAULTS:
        return BundleError(words, cause)
    return (NotFiniteError if error.status == Status.NOT_FINITE else RuntimeFailure)(words, cause)
