"""Weights in the layout of safetensors, so that anyone's reader opens them; see ``tvm_flow.pack.format``.

Values are written first, while their number is not known yet. The header goes before them into room that was left for
it; where that is too little, the values are moved, within the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

FIRST_ALIGNMENT = 16384
"""Values begin at a multiple of it: pages of every system that this runs on, which devices may import."""
DIGEST = "sha256"
_DIGEST_BYTES = 32
_CHUNK = 1 << 24
_TYPES = {
    **{"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64"},
    **{f"{sign}int{bits}": f"{sign.upper() or 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class Entry:
    """``name`` of an array whose ``size`` bytes lie ``offset`` bytes behind where values begin."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int
    size: int


def finish_weights(file: BinaryIO, room: int, size: int, entries: Sequence[Entry]) -> int:
    """Make ``file``, with ``size`` bytes of values behind ``room``, a safetensors file; where values begin now.

    ``entries`` are in the order of their offsets. The last tensor is the sha256 of all bytes before it.
    """
    text = json.dumps(_table(entries, size), separators=(",", ":")).encode()
    first = max(room, -(-(8 + len(text)) // FIRST_ALIGNMENT) * FIRST_ALIGNMENT)
    _move(file, room, size, first - room)
    _write_at(file, 0, (first - 8).to_bytes(8, "little") + text.ljust(first - 8))
    _write_at(file, first + size, _digest(file, first + size))
    return first


def _table(entries: Sequence[Entry], size: int) -> dict[str, object]:
    """The header's JSON: every byte of the values belongs to one tensor."""
    table: dict[str, object] = {"__metadata__": {"made_by": "tvm_flow", "what": "weights of a bundle"}}
    end = 0
    for entry in entries:
        if entry.offset > end:
            table[f"padding.{len(table)}"] = _row("U8", [entry.offset - end], end, entry.offset)
        end = entry.offset + entry.size
        name = entry.name if entry.name not in table else f"{entry.name}.{len(table)}"
        known = _TYPES.get(entry.dtype.name)
        shape = list(entry.shape) if known else [entry.size]
        table[name] = _row(known or "U8", shape, entry.offset, end)
    assert end == size, "every value was added by name"
    return {**table, DIGEST: _row("U8", [_DIGEST_BYTES], size, size + _DIGEST_BYTES)}


def _row(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _move(file: BinaryIO, at: int, size: int, by: int) -> None:
    """Move ``size`` bytes further, the last ones first: they overlap."""
    for begin in reversed(range(at, at + size, _CHUNK)) if by else ():
        data = _read_at(file, begin, min(_CHUNK, at + size - begin))
        _write_at(file, begin + by, data)


def _digest(file: BinaryIO, size: int) -> bytes:
    found = hashlib.sha256()
    for part in _parts(file, size):
        found.update(part)
    return found.digest()


def _parts(file: BinaryIO, size: int) -> Iterator[bytes]:
    for begin in range(0, size, _CHUNK):
        yield _read_at(file, begin, min(_CHUNK, size - begin))


def _read_at(file: BinaryIO, at: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.pread(file.fileno(), size - len(data), at + len(data))
    return data


def _write_at(file: BinaryIO, at: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(file.fileno(), data[written:], at + written)
