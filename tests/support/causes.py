"""Opening a bundle with the C runtime alone and with Python's verify, and the cause that each gives."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

from support.manifests import change_manifest
from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.pack import verify_bundle
from tvm_flow.run import native
from tvm_flow.run.status import CError


def cause_in_c(bundle: Path, function: str = "tvm_flow") -> tuple[Cause, str]:
    """Of the first that fails: opening, and running the golden input; its message. NONE and nothing: it runs.

    ``function``: the prefix of the handle's functions, "tvm_flow" or "tvm_flow_decoder".
    """
    runtime, pointer, error = _runtime(), ctypes.c_void_p(), CError()
    options = native.COptions(struct_bytes=ctypes.sizeof(native.COptions), threads=1)
    opened = getattr(runtime, f"{function}_open")
    status = opened(os.fsencode(bundle), ctypes.byref(options), ctypes.byref(pointer), ctypes.byref(error))
    if not status:
        status = getattr(runtime, f"{function}_verify")(pointer, ctypes.byref(error))
        getattr(runtime, f"{function}_close")(pointer)
    return (Cause(runtime.tvm_flow_cause_of(error)), error.message.decode()) if status else (Cause.NONE, "")


@cache
def _runtime() -> ctypes.CDLL:
    """Looking whether it is current takes longer than opening a small bundle."""
    return native.load_runtime()


def cause_in_python(bundle: Path) -> tuple[Cause, str]:
    """Of verify_bundle on this machine; NONE and nothing: it passes."""
    try:
        verify_bundle(bundle, platform.machine())
    except BundleError as error:
        return error.cause, str(error)
    return Cause.NONE, ""


def rewrite(bundle: Path, name: str, data: bytes) -> None:
    """Write ``data`` and make the manifest agree, as whoever forges a bundle would."""
    (bundle / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(bundle, lambda values: values["files"].update({name: entry}))


def forge(bundle: Path, change: Callable[[bytearray], object], name: str = "steps.bin") -> None:
    """Change a file that ends in its digest, and make digest and manifest fit."""
    data = bytearray((bundle / name).read_bytes()[:-32])
    change(data)
    rewrite(bundle, name, bytes(data) + hashlib.sha256(data).digest())
