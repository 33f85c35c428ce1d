"""Vulkan: its loader, and the devices that our runtime finds with it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tvm_flow.doctor.finding import Finding, Status
from tvm_flow.doctor.tried import try_python

_LOADER = "libvulkan.so.1"
_NEEDED_BY = "run and compile of targets with backend vulkan or npu_arm; devices"
_DEVICES = """
from tvm_flow.run.vulkan_list import vulkan_devices
for each in vulkan_devices():
    print(each.name, each.kind)
"""


def vulkan_findings() -> Iterator[Finding]:
    """The loader, and the devices where there is one."""
    name = os.environ.get("TVM_FLOW_VULKAN_LOADER") or _LOADER
    loader = try_python("import ctypes, sys; ctypes.CDLL(sys.argv[1])", name)
    status = Status.OK if loader.good else Status.MISSING
    yield Finding(
        "Vulkan loader", status, name if loader.good else loader.words, _NEEDED_BY, "sudo apt-get install libvulkan1"
    )
    yield _devices() if loader.good else _device(Status.MISSING, "no loader to ask")


def _devices() -> Finding:
    tried = try_python(_DEVICES)
    if not tried.good:
        return _device(Status.WRONG, tried.words)
    return _device(Status.OK if tried.words else Status.MISSING, ", ".join(tried.words.splitlines()) or "none")


def _device(status: Status, found: str) -> Finding:
    return Finding("Vulkan device", status, found, _NEEDED_BY, "sudo apt-get install mesa-vulkan-drivers")
