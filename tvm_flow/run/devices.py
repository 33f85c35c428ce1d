"""Devices besides the CPU that a bundle's libraries name: where their part of the runtime is.

Each backend of `tvm_flow.backends.registry` builds, or knows, a shared library that exports `tvm_flow_device_NAME` of
tvm_flow_device.h. Nothing is built, loaded or imported before a bundle needs it: the compiler behind the registry
takes 360 MB.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Array, c_char, c_void_p

from tvm_flow.backends.always import CPU
from tvm_flow.errors import RuntimeFailure


def device_pointers(names: Sequence[str]) -> Array[c_void_p]:
    """Addresses of the tvm_flow_device_type of each of ``names`` but the CPU, in their order, for the whole process.

    Raises ConfigError for a backend that is not known, RuntimeFailure naming the device when its library cannot be
    loaded or lacks it, BuildError when it cannot be made here.
    """
    return (c_void_p * sum(name != CPU for name in names))(*(_address(name) for name in names if name != CPU))


def _address(name: str) -> int:
    from tvm_flow.backends.registry import backend_named

    path, symbol = backend_named(name).runtime_library(), f"tvm_flow_device_{name}"
    try:
        return ctypes.addressof(c_char.in_dll(ctypes.CDLL(str(path)), symbol))
    except OSError as error:
        raise RuntimeFailure(
            f"device {name}: expected to load {path}, got: {error}; install what it is linked with"
        ) from error
    except ValueError as error:
        raise RuntimeFailure(
            f"device {name}: expected {path} to export {symbol}, got none; build it for this version"
        ) from error
