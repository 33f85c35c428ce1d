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
from tvm_flow.plan.weights_file import Entry, finish_weights


class WeightStore:
    """Constants that all steps share, appended to a file; equal arrays are stored once, whichever group they are of."""

    def __init__(self, path: Path | None = None, room: int = 0) -> None:
        """``path``: the file to write; a temporary one without a name by default.

        ``room`` bytes before the values are left for the header that `finish` writes.
        """
        self.path = path
        self.size = 0
        self.first = room
        self.offsets: dict[bytes, int] = {}
        self._entries: list[Entry] = []
        # Unbuffered: what was added can be read back, and packed, at any time.
        self._file: Any = tempfile.TemporaryFile(buffering=0) if path is None else path.open("w+b", 0)  # noqa: SIM115
        self._file.seek(room)

    def add(self, array: Array, name: str = "constant") -> int:
        """Byte offset of ``array``; ``name`` is for people, and need not be its own."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        key = hashlib.sha256(raw).digest()
        if key not in self.offsets:
            self._write(bytes(-self.size % ALIGNMENT))
            self.offsets[key] = self.size
            self._entries.append(Entry(name, array.dtype, array.shape, self.size, len(raw)))
            self._write(raw)
        return self.offsets[key]

    def finish(self) -> None:
        """Make it a file that readers of safetensors open: a header before the values, their digest behind them.

        Nothing can be added any more; `first` is where values begin.
        """
        self.first = finish_weights(self._file, self.first, self.size, self._entries)

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
        return memoryview(self._mapped())[self.first : self.first + self.size]

    @property
    def file(self) -> memoryview:
        """A read-only view of the finished file."""
        return memoryview(self._mapped())

    def _mapped(self) -> mmap.mmap:
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
