"""The device ``npu_arm`` of the runtime in C: VGFs on Vulkan devices with VK_ARM_tensors and VK_ARM_data_graph.

    bundle -> libtvm_flow -> device npu_arm -> libvulkan            the driver has both
                                            -> Arm's emulation layer -> libvulkan: on this machine

Its C files are those of runtime/ and, of Vulkan's part, those that know no shaders.

Vulkan's loader takes layers from variables and manifests of the whole process, and Debian's (1.3.239) orders those of
VK_INSTANCE_LAYERS by the folders they lie in. The device needs none of it: it opens the layers' libraries itself and
links them for its own instance (runtime/npu_layers.h), so that a Vulkan device in the same process does not see them.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from tvm_flow.errors import BuildError
from tvm_flow.toolchain.arm_npu import missing_packages
from tvm_flow.toolchain.runtime_library import build_device

RUNTIME_PART = Path(__file__).with_name("runtime")
VULKAN_PART = Path(__file__).parents[2] / "vulkan" / "runtime"
_SHARED = ("cache", "clock", "device", "error", "features", "import", "instance", "memory", "plan", "weights")
_NAMES = ('VF_DEVICE_NAME="npu_arm"', 'VF_VARIABLES="TVM_FLOW_NPU_"')
_LAYERS = ("Graph", "Tensor")
"""The topmost first: graphs are made of tensors."""


def emulation_layers() -> tuple[Path, ...]:
    """Libraries of Arm's emulation layer, the topmost first; raises BuildError naming packages that are missing."""
    found = importlib.util.find_spec("emulation_layer")
    if (missing := missing_packages()) or found is None or found.origin is None:
        raise BuildError(
            f"device npu_arm: expected {', '.join(missing)} to be installed, to emulate it; pip install "
            "tvm-flow[npu-arm], or run the bundle on a device that has an NPU"
        )
    folder = Path(found.origin).parent / "deploy" / "lib"
    return tuple(folder / f"libVkLayer_{name}.so" for name in _LAYERS)


def build_emulated_device() -> Path:
    """The shared library with ``tvm_flow_device_npu_arm`` for this machine, compiled once.

    Where neither the program nor TVM_FLOW_NPU_LAYERS names layers, it has Arm's. Raises BuildError.
    """
    layers = json.dumps(":".join(map(str, emulation_layers())))
    return _build(None, (*_NAMES, f"NPU_LAYERS={layers}"))


def build_board_device(zig_triple: str) -> Path:
    """That library for another machine, whose driver has both extensions; raises BuildError."""
    return _build(zig_triple, _NAMES)


def _build(triple: str | None, defines: tuple[str, ...]) -> Path:
    shared = [VULKAN_PART / f"vf_{name}.c" for name in _SHARED]
    return build_device("npu_arm", RUNTIME_PART, triple, defines, shared)
