"""The bytes of ``weights.bin``, written once while constants are made and never held in memory."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.graph.constants import Array
from tvm_flow.plan.arena import ALIGNMENT


class WeightStore:
    """Constants that all steps share, appended to a file; equal arrays are stored once, whichever group they are of."""

    def __init__(self, path: Path | None = None) -> None:
        """``path``: the file to write; a temporary one without a name by default."""
        self.path = path
        self.size = 0
        self.offsets: dict[bytes, int] = {}
        # Unbuffered: what was added can be read back, and packed, at any time.
        self._file: Any = tempfile.TemporaryFile(buffering=0) if path is None else path.open("w+b", 0)  # noqa: SIM115

    def add(self, array: Array) -> int:
        """Byte offset of ``array``."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        key = hashlib.sha256(raw).digest()
        if key not in self.offsets:
            self._write(bytes(-self.size % ALIGNMENT))
            self.offsets[key] = self.size
            self._write(raw)
        return self.offsets[key]

    def _write(self, raw: bytes | memoryview) -> None:
        written = 0
        while written < len(raw):  # one call writes at most 2 GiB
            written += self._file.write(raw[written:])
        self.size += len(raw)

    @property
    def data(self) -> memoryview:
        """A read-only view of all that was added so far."""
        if not self.size:
            return memoryview(b"")
        return memoryview(mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ))
