"""The Vulkan devices of this machine, as the runtime's part for them sees them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_uint8, c_void_p
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from tvm_flow.backends.registry import backend_named
from tvm_flow.errors import RuntimeFailure
from tvm_flow.run.status import CError


class _CDevice(Structure):
    """tvm_flow_vulkan_device."""

    _fields_: ClassVar = [
        *((name, u32) for name in ("struct_bytes", "index")),
        *((name, c_char_p) for name in ("name", "kind", "driver", "lacks")),
        ("uuid", c_uint8 * 16),
        *((name, u32) for name in ("api_version", "driver_version", "subgroup", "shared_bytes", "invocations")),
        ("memory_bytes", u64),
    ]


_SEE = CFUNCTYPE(c_int, c_void_p, POINTER(_CDevice))


@dataclass(frozen=True)
class VulkanDeviceFound:
    """A device; ``lacks`` are features for which a shader is refused on it."""

    index: int
    name: str
    kind: str
    driver: str
    uuid: UUID
    version: str
    subgroup: int
    shared_bytes: int
    invocations: int
    memory_bytes: int
    lacks: tuple[str, ...]

    def __str__(self) -> str:
        """Two lines: what it is, and what it lacks."""
        sizes = f"{self.memory_bytes >> 20} MB, {self.shared_bytes} bytes shared by {self.invocations} invocations"
        what = f"{self.name} ({self.kind}), driver {self.driver}, Vulkan {self.version}, subgroups of {self.subgroup}"
        return f"vulkan {self.index}: {what}, {sizes}, UUID {self.uuid}\n  lacks: {', '.join(self.lacks) or 'nothing'}"


def vulkan_devices() -> tuple[VulkanDeviceFound, ...]:
    """All of them, in the order in which TVM_FLOW_VULKAN_DEVICE counts them.

    Raises RuntimeFailure where there is no libvulkan or no driver, BuildError when the runtime's part for Vulkan cannot
    be made here.
    """
    found: list[VulkanDeviceFound] = []

    def see(_user: object, device: Any) -> int:
        found.append(_found(device.contents))
        return 0

    error, callback = CError(), _SEE(see)
    if _list_function()(None, callback, None, byref(error)):
        raise RuntimeFailure(error.message.decode(errors="replace"))
    return tuple(found)


def _list_function() -> Callable[..., int]:
    library = ctypes.CDLL(str(backend_named("vulkan").runtime_library()))
    function: Callable[..., int] = library.tvm_flow_vulkan_list
    return function


def _found(device: _CDevice) -> VulkanDeviceFound:
    text = [getattr(device, name).decode(errors="replace") for name in ("name", "kind", "driver", "lacks")]
    name, kind, driver, lacks = text
    version = f"{device.api_version >> 22 & 127}.{device.api_version >> 12 & 1023}"
    return VulkanDeviceFound(
        *(device.index, name, kind, driver, UUID(bytes=bytes(device.uuid)), version),
        *(device.subgroup, device.shared_bytes, device.invocations, device.memory_bytes),
        tuple(lacks.split(", ")) if lacks else (),
    )
