"""VGFs run in Arm's emulation layer: `build_device` makes the device of the runtime, `main` is the process behind it.

    bundle -> libtvm_flow -> device npu_arm (runtime/npu_emulated.c) --socket--> this module -> scenario runner
                                                                                 -> Vulkan with the emulation layer

The layer is chosen by VK_* variables of a whole process, and must not be seen by a Vulkan device beside it: so it has
a process of its own. Debian's loader orders layers by folder, and the graph layer must be above the tensor layer: hence
two folders. Requests, integers of 32 bits in the machine's order:

    'L' signature bytes, VGF bytes, signature, VGF            load: ids count from 0
    'R' id, bytes, inputs one after the other                 run
    reply: 0 or 1 for failed, bytes, the output or a message
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import struct
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.errors import BuildError
from tvm_flow.toolchain.arm_npu import missing_packages
from tvm_flow.toolchain.runtime_library import build_device as build_device_library

RUNTIME_PART = Path(__file__).with_name("runtime")
_DRIVERS = Path("/usr/share/vulkan/icd.d")


def build_device() -> Path:
    """The shared library with ``tvm_flow_device_npu_arm`` for this machine, compiled once.

    Raises BuildError naming packages that are not installed.
    """
    if missing := missing_packages():
        raise BuildError(
            f"device npu_arm: expected {', '.join(missing)} to be installed, to emulate it; pip install "
            "tvm-flow[npu-arm], or run the bundle on a device that has an NPU"
        )
    return build_device_library("npu_arm", RUNTIME_PART, defines=(f"NPU_PYTHON={json.dumps(sys.executable)}",))


def emulation_variables(folder: Path) -> dict[str, str]:
    """VK_* of a process that has the layers, whose manifests are written to ``folder``; raises BuildError."""
    found = importlib.util.find_spec("emulation_layer")
    drivers = sorted(_DRIVERS.glob("lvp_icd.*.json"))
    if found is None or found.origin is None or not drivers:
        raise BuildError(
            f"emulated NPU: expected Arm's emulation layer and {_DRIVERS}/lvp_icd.*.json; pip install "
            "tvm-flow[npu-arm], apt-get install mesa-vulkan-drivers libvulkan1"
        )
    deployed, folders = Path(found.origin).parent / "deploy", []
    for place, name in enumerate(("Graph", "Tensor")):
        manifest = json.loads((deployed / f"share/vulkan/explicit_layer.d/VkLayer_{name}.json").read_text())
        manifest["layer"]["library_path"] = str(deployed / "lib" / f"libVkLayer_{name}.so")
        folders.append(folder / f"{place}_{name}")
        folders[-1].mkdir(parents=True, exist_ok=True)
        (folders[-1] / f"{name}.json").write_text(json.dumps(manifest))
    return {
        "VK_LAYER_PATH": ":".join(map(str, folders)),
        "VK_INSTANCE_LAYERS": "VK_LAYER_ML_Graph_Emulation:VK_LAYER_ML_Tensor_Emulation",
        "VK_ICD_FILENAMES": str(drivers[0]),
    }


@dataclass
class Session:
    """One VGF, built by the scenario runner when it is first run."""

    signature: list[dict[str, Any]]
    vgf: Path
    built: tuple[Any, list[Any]] | None = field(default=None)

    def run(self, inputs: bytes) -> bytes:
        """Bytes of the output; raises ValueError for inputs of another size, RuntimeError of the runner."""
        scenario, tensors = self.built = self.built or self._build()
        offset = 0
        for said, tensor in zip(self.signature, tensors[:-1], strict=False):
            dtype, shape = np.dtype(said["dtype"]), tuple(said["shape"])
            count = int(np.prod(shape))
            scenario.upload(tensor, np.frombuffer(inputs, dtype, count, offset).reshape(shape))
            offset += count * dtype.itemsize
        if offset != len(inputs):
            raise ValueError(f"expected {offset} bytes of inputs, got {len(inputs)}")
        scenario.run()
        return bytes(np.ascontiguousarray(scenario.download(tensors[-1])).tobytes())

    def _build(self) -> tuple[Any, list[Any]]:
        import scenario_runner as runner

        formats = {
            **{"int8": runner.Format.R8Sint, "int16": runner.Format.R16Sint},
            **{"int32": runner.Format.R32Sint, "float32": runner.Format.R32Sfloat},
        }
        builder = runner.ScenarioBuilder()
        tensors = [builder.add_tensor(said["shape"], formats[said["dtype"]]) for said in self.signature]
        info = runner.VgfInfo()
        info.load_source(str(self.vgf))
        dispatch = runner.DispatchVgfData(builder.add_vgf(info))
        kind = runner.DescriptorType.TensorArm
        dispatch.bindings = [runner.TypedBinding(0, index, tensor, kind) for index, tensor in enumerate(tensors)]
        builder.add_dispatch_vgf(dispatch)
        return builder.build(), tensors


def serve(connection: socket.socket, folder: Path) -> None:
    """Answer requests until the other side closes."""
    sessions: list[Session] = []
    while kind := connection.recv(4):
        first, size = struct.unpack("=II", _exactly(connection, 8))
        try:
            if kind[:1] == b"L":
                signature = json.loads(_exactly(connection, first))
                path = folder / f"{len(sessions)}.vgf"
                path.write_bytes(_exactly(connection, size))
                sessions.append(Session(signature, path))
                status, answer = 0, b""
            else:
                inputs = _exactly(connection, size)
                status, answer = 0, sessions[first].run(inputs)
        except Exception as error:  # the other side has to hear of it, whatever it is
            status, answer = 1, f"{type(error).__name__}: {error}".encode()
        connection.sendall(struct.pack("=II", status, len(answer)) + answer)


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise EOFError(f"expected {count} bytes, got {len(found)}")
        found += part
    return bytes(found)


def main() -> None:
    """Serve the socket that is this process's standard input."""
    with tempfile.TemporaryDirectory(prefix="tvm-flow-npu-") as name, socket.socket(fileno=0) as connection:
        os.environ.update(emulation_variables(Path(name)))
        serve(connection, Path(name))


if __name__ == "__main__":
    main()
