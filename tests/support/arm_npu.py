"""Running TOSA graphs in tests, where Arm's packages are installed."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.toolchain.arm_npu import missing_packages, reference_outputs, serialized

Array = npt.NDArray[Any]
MISSING = missing_packages()
needs_npu_arm = pytest.mark.skipif(
    bool(MISSING), reason=f"extra npu-arm: {', '.join(MISSING)} not installed; pip install tvm-flow[npu-arm]"
)


def graph_of(build: Callable[..., Value], inputs: Sequence[Array]) -> tuple[bytes, Value]:
    """The flatbuffer that ``build`` makes of a graph and its inputs, and the graph's output."""
    graph = TosaGraph()
    given = [graph.input(array.shape, str(array.dtype)) for array in inputs]
    output = build(graph, *given)
    return serialized(graph.text(output)), output


def by_reference_model(build: Callable[..., Value], *inputs: Array) -> Array:
    """What the specification's model computes."""
    made, output = graph_of(build, inputs)
    (found,) = reference_outputs(made, inputs)
    return found.view(output.dtype).reshape(output.shape)


def codes(rng: np.random.Generator, *shape: int, dtype: Any = np.int8) -> Array:
    """Random integers of the whole range, its ends among them."""
    limits = np.iinfo(dtype)
    found = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    found.reshape(-1)[:2] = (limits.min, limits.max)[: found.size]
    return found


class Emulator:
    """The process behind the emulated device, spoken to from here; `tvm_flow.backends.npu.arm.emulated` has the words.

    Graphs are loaded once; ``run`` gives the bytes of an output.
    """

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tvm_flow.backends.npu.arm.emulated"]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL)
        theirs.close()
        self.loaded = 0

    def load(self, signature: str, vgf: bytes) -> int:
        self._ask(b"L\0\0\0" + struct.pack("=II", len(signature), len(vgf)) + signature.encode() + vgf)
        self.loaded += 1
        return self.loaded - 1

    def run(self, graph: int, inputs: Sequence[Array]) -> bytes:
        data = b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)
        return self._ask(b"R\0\0\0" + struct.pack("=II", graph, len(data)) + data)

    def close(self) -> int:
        self.connection.close()
        return self.process.wait(60)

    def _ask(self, request: bytes) -> bytes:
        self.connection.sendall(request)
        status, size = struct.unpack("=II", self._exactly(8))
        answer = self._exactly(size)
        if status:
            raise RuntimeError(answer.decode())
        return answer

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.connection.recv(count - len(found))
            assert part, f"the emulator ended with {self.process.wait(10)}"
            found += part
        return found
