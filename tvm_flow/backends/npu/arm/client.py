"""One kernel at a time on the emulated NPU, from Python: for conformance and measurements, without a bundle."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from tvm_flow.backends.npu.arm.blobs import Blob
from tvm_flow.errors import RuntimeFailure
from tvm_flow.numerics.rescale import Array

_MODULE = "tvm_flow.backends.npu.arm.emulated"
_PATIENCE = 60.0
"""Seconds for the process to end when its requests do."""


class EmulatedNpu:
    """The process of `tvm_flow.backends.npu.arm.emulated`, which has the words of requests; a context."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", _MODULE]
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
        self.loaded = 0

    def __enter__(self) -> EmulatedNpu:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _value: object, _trace: TracebackType | None) -> None:
        self.close()

    def load(self, blob: Blob) -> int:
        """A number for the graph ``blob``."""
        signature = blob.signature.encode()
        self._ask(b"L\0\0\0" + struct.pack("=II", len(signature), len(blob.vgf)) + signature + blob.vgf)
        self.loaded += 1
        return self.loaded - 1

    def run(self, graph: int, inputs: Sequence[Array]) -> bytes:
        """The output of a graph; raises RuntimeFailure with the emulator's words."""
        data = b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)
        return self._ask(b"R\0\0\0" + struct.pack("=II", graph, len(data)) + data)

    def close(self) -> int:
        """Its exit code."""
        self.connection.close()
        return self.process.wait(_PATIENCE)

    def _ask(self, request: bytes) -> bytes:
        self.connection.sendall(request)
        status, size = struct.unpack("=II", self._exactly(8))
        answer = self._exactly(size)
        if status:
            raise RuntimeFailure(f"emulated NPU: {answer.decode(errors='replace')}; report this kernel")
        return answer

    def _exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            part = self.connection.recv(count - len(found))
            if not part:
                raise RuntimeFailure("emulated NPU: expected an answer, its process ended; see its message above")
            found += part
        return bytes(found)
