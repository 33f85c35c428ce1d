"""Devices besides the CPU that a bundle's libraries name: where their shared libraries are.

A backend says once where its library is; the library exports `tvm_flow_device_NAME` of tvm_flow_device.h:

    register_device_library("vulkan", build_vulkan_runtime)

Nothing is built or loaded before a bundle needs it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import Array, c_char, c_void_p
from pathlib import Path

from tvm_flow.errors import RuntimeFailure

Loader = Callable[[], Path]
"""The path of a device's shared library, built first where that is needed."""

_LOADERS: dict[str, Loader] = {}


def register_device_library(name: str, loader: Loader) -> None:
    """The device ``name`` is in the library that ``loader`` gives; a second registration replaces the first."""
    _LOADERS[name] = loader


def device_pointers(names: Sequence[str]) -> Array[c_void_p]:
    """Addresses of the tvm_flow_device_type of each of ``names``, in their order, valid as long as the process.

    Raises RuntimeFailure naming the device that is not registered, cannot be loaded or is not in its library, and what
    its loader raises.
    """
    return (c_void_p * len(names))(*(_address(name) for name in names))


def _address(name: str) -> int:
    loader = _LOADERS.get(name)
    if loader is None:
        known = ", ".join(sorted(_LOADERS)) or "none"
        raise RuntimeFailure(
            f"device {name}: expected a registered one ({known}), got a bundle that needs {name}; install the backend, "
            "or compile for a target without it"
        )
    path, symbol = loader(), f"tvm_flow_device_{name}"
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
