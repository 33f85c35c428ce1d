"""VGFs run by Arm's own runner in a process of its own: what the runtime's device is compared with.

    tvm_flow.backends.npu.arm.client --socket--> this module -> scenario runner -> Vulkan with the emulation layer

The runner has Vulkan's loader choose the layer, by VK_* variables of a whole process. Debian's orders layers by folder,
and the graph layer must be above the tensor layer: hence two folders. Requests, integers of 32 bits in the machine's
order:

    'L' signature bytes, VGF bytes, signature, VGF            load: ids count from 0
    'R' id, bytes, inputs one after the other                 run
    reply: 0 or 1 for failed, bytes, the output or a message
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.backends.npu.arm.npu_device import emulation_layers
from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder

_DRIVERS = Path("/usr/share/vulkan/icd.d")


def emulation_variables(folder: Path) -> dict[str, str]:
    """VK_* of a process that has the layers, whose manifests are written to ``folder``; raises BuildError."""
    drivers = sorted(_DRIVERS.glob("lvp_icd.*.json"))
    if not drivers:
        raise BuildError(f"emulated NPU: expected {_DRIVERS}/lvp_icd.*.json; apt-get install mesa-vulkan-drivers")
    folders = []
    for place, library in enumerate(emulation_layers()):
        name = library.stem.removeprefix("lib")
        manifest = json.loads((library.parents[1] / f"share/vulkan/explicit_layer.d/{name}.json").read_text())
        manifest["layer"]["library_path"] = str(library)
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
    with temporary_folder("npu") as folder, socket.socket(fileno=0) as connection:
        os.environ.update(emulation_variables(folder))
        serve(connection, folder)


if __name__ == "__main__":
    main()
