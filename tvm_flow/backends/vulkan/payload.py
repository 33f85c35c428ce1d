"""The payload of the Vulkan device: SPIR-V and what each call runs. ``runtime/payload.h`` is its specification.

The compiler makes one `ShaderKernel` of each kernel; `encode_payload` writes those of a library as one payload, which
all of its segments share. Equal modules and equal pipelines are written once.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag

MAGIC, VERSION, NONE = 0x4B564654, 1, 0xFFFFFFFF


class Access(IntFlag):
    """What a dispatch does with an argument."""

    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Pipeline:
    """A SPIR-V module with entry point ``main`` and its specialization constants.

    ``local`` is the size of a workgroup that results. ``fallback`` computes the same without integer dot products.
    """

    spirv: bytes
    local: tuple[int, int, int]
    shared_bytes: int = 0
    constants: tuple[tuple[int, int], ...] = ()
    """(id, value) of 32 bits each."""
    fallback: Pipeline | None = None


@dataclass(frozen=True)
class Argument:
    """Argument ``position`` of the call at ``binding``."""

    position: int
    binding: int
    access: Access


@dataclass(frozen=True)
class Scratch:
    """``size`` bytes of scratch memory at ``offset``, a multiple of 64, at ``binding``."""

    offset: int
    size: int
    binding: int
    access: Access


@dataclass(frozen=True)
class Dispatch:
    """``pipeline`` on ``grid`` workgroups; push constant i is the word of its binding where ``args[i]`` begins."""

    pipeline: Pipeline
    grid: tuple[int, int, int]
    args: tuple[Argument | Scratch, ...]


@dataclass(frozen=True)
class ShaderKernel:
    """What a kernel runs, in order."""

    dispatches: tuple[Dispatch, ...]


@dataclass
class _Tables:
    modules: dict[bytes, int] = field(default_factory=dict)
    pipelines: dict[tuple[Pipeline, tuple[int, ...]], int] = field(default_factory=dict)
    rows: dict[str, list[tuple[int, ...]]] = field(
        default_factory=lambda: {name: [] for name in ("modules", "pipelines", "constants", "dispatches", "args")}
    )
    words: int = 0

    def module(self, spirv: bytes) -> int:
        if spirv not in self.modules:
            self.modules[spirv] = len(self.modules)
            self.rows["modules"].append((self.words, len(spirv) // 4))
            self.words += len(spirv) // 4
        return self.modules[spirv]

    def pipeline(self, wanted: Pipeline, bindings: tuple[int, ...]) -> int:
        """Its row, for arguments at ``bindings``."""
        if (wanted, bindings) not in self.pipelines:
            fallback = NONE if wanted.fallback is None else self.pipeline(wanted.fallback, bindings)
            first = len(self.rows["constants"])
            self.rows["constants"] += wanted.constants
            self.pipelines[wanted, bindings] = len(self.pipelines)
            used = sum(1 << binding for binding in {*bindings})
            sizes = (wanted.shared_bytes, used, len(bindings), first, len(wanted.constants))
            self.rows["pipelines"].append((self.module(wanted.spirv), fallback, *wanted.local, *sizes))
        return self.pipelines[wanted, bindings]

    def dispatch(self, wanted: Dispatch) -> None:
        pipeline = self.pipeline(wanted.pipeline, tuple(arg.binding for arg in wanted.args))
        self.rows["dispatches"].append((pipeline, *wanted.grid, len(self.rows["args"]), len(wanted.args)))
        for arg in wanted.args:
            where = (0, 0) if isinstance(arg, Argument) else (arg.offset, arg.size)
            position = arg.position if isinstance(arg, Argument) else NONE
            self.rows["args"].append((position, arg.binding, int(arg.access), *where))


def encode_payload(kernels: Mapping[str, ShaderKernel], calls: Sequence[str | None]) -> bytes:
    """The payload of a library whose call i runs ``kernels[calls[i]]``; None: it is another device's."""
    tables, index = _Tables(), {name: row for row, name in enumerate(kernels)}
    ranges: list[tuple[int, ...]] = []
    for kernel in kernels.values():
        ranges.append((len(tables.rows["dispatches"]), len(kernel.dispatches)))
        for dispatch in kernel.dispatches:
            tables.dispatch(dispatch)
    named: list[tuple[int, ...]] = [(NONE if name is None else index[name],) for name in calls]
    own = tables.rows
    parts = (
        *(own["modules"], own["pipelines"], own["constants"], ranges),
        *(own["dispatches"], own["args"], named),
    )
    body = b"".join(_words(row) for part in parts for row in part) + b"".join(tables.modules)
    counts = (*(len(part) for part in parts), tables.words, _scratch_bytes(kernels))
    return _words((MAGIC, VERSION, 4 * (3 + len(counts)) + len(body), *counts)) + body


def counted(library: bytes) -> tuple[int, int]:
    """How many pipelines, and bytes of SPIR-V, the payload in the file of a ``library`` has; zeros without one."""
    begin = library.find(_words((MAGIC, VERSION)))
    if begin < 0:
        return 0, 0
    header = _header(library, begin)
    return header[4], 4 * header[10]


def modules_of(library: bytes) -> tuple[bytes, ...]:
    """Every SPIR-V module of the payload in the file of a ``library``; none without one."""
    begin = library.find(_words((MAGIC, VERSION)))
    if begin < 0:
        return ()
    header = _header(library, begin)
    code, table = begin + header[2] - 4 * header[10], begin + 4 * len(header)
    rows = (struct.unpack_from("<2I", library, table + 8 * row) for row in range(header[3]))
    return tuple(library[code + 4 * first : code + 4 * (first + words)] for first, words in rows)


def _header(library: bytes, begin: int) -> tuple[int, ...]:
    return struct.unpack_from("<12I", library, begin)


def _scratch_bytes(kernels: Mapping[str, ShaderKernel]) -> int:
    dispatches = (dispatch for kernel in kernels.values() for dispatch in kernel.dispatches)
    parts = (arg for dispatch in dispatches for arg in dispatch.args if isinstance(arg, Scratch))
    return max((arg.offset + arg.size for arg in parts), default=0)


def _words(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)
