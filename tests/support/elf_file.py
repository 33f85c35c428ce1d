"""A reader of the dynamic section of 64-bit little-endian ELF files, so that no test needs binutils."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_DYNAMIC, _DYNSYM, _NEEDED = 6, 11, 1


@dataclass(frozen=True)
class Elf:
    """Names that a shared library needs, exports, and leaves undefined."""

    needed: frozenset[str]
    exported: frozenset[str]
    undefined: frozenset[str]


def read_elf(path: Path) -> Elf:
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + i * size) for i in range(count)]

    def name(strings: int, at: int) -> str:
        start = sections[strings][4] + at
        return data[start : data.index(b"\0", start)].decode()

    needed, exported, undefined = set(), set(), set()
    for section in sections:
        kind, start, length, link = section[1], section[4], section[5], section[6]
        if kind == _DYNAMIC:
            rows = (struct.unpack_from("<qQ", data, start + i) for i in range(0, length, 16))
            needed |= {name(link, value) for tag, value in rows if tag == _NEEDED}
        if kind == _DYNSYM:
            for i in range(24, length, 24):  # the first row is empty
                at, info, _, index = struct.unpack_from("<IBBH", data, start + i)
                weak = info >> 4 == 2
                (exported if index else undefined if not weak else set()).add(name(link, at))
    return Elf(frozenset(needed), frozenset(exported), frozenset(undefined))
