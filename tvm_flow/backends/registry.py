"""The backends there are, by name: those of this package, and those that other packages offer.

Another package adds one by an entry point of the group ``tvm_flow.backends`` whose value is a `Backend`, or a program
by `register_backend`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from tvm_flow.backends.base import Backend
from tvm_flow.backends.packed import CPU
from tvm_flow.errors import ConfigError

ENTRY_POINTS = "tvm_flow.backends"
NPU_ARM, VULKAN = "npu_arm", "vulkan"
OWN = (CPU, NPU_ARM, VULKAN)
"""Those of this package."""
_REGISTRY: dict[str, Backend] = {}


def register_backend(backend: Backend) -> Backend:
    """Make ``backend`` known under its name; raises ConfigError when another has it."""
    known = _REGISTRY.setdefault(backend.name, backend)
    if known is not backend:
        raise ConfigError(f"backend {backend.name!r}: another is registered under this name; choose another name")
    return backend


def forget_backend(name: str) -> None:
    """Take ``name`` out again, for a program that brought it for a while."""
    _REGISTRY.pop(name, None)


def backend_named(name: str) -> Backend:
    """The backend ``name``; raises ConfigError naming those that are known."""
    if name not in _REGISTRY and (own := _own(name)) is not None:
        register_backend(own)
    if name not in _REGISTRY:
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            register_backend(entry.load())
    if name not in _REGISTRY:
        raise ConfigError(
            f"backend {name!r}: expected one of {', '.join(sorted({*OWN, *_REGISTRY}))}; correct the target's "
            "backends, or install the package that has it"
        )
    return _REGISTRY[name]


def _own(name: str) -> Backend | None:
    """One of `OWN`: nothing is imported before it is needed."""
    if name == CPU:
        from tvm_flow.backends.cpu.backend import CpuBackend

        return CpuBackend()
    if name == NPU_ARM:
        from tvm_flow.backends.npu.arm.backend import ArmBackend

        return ArmBackend()
    if name == VULKAN:
        from tvm_flow.backends.vulkan.backend import VulkanBackend

        return VulkanBackend()
    return None
