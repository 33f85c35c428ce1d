"""A device driven by its vtable as the runtime would do it, Vulkan's where none is named: a few calls, their payload.

For benches and tests of the device alone, without a bundle.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_uint8, c_void_p, cast
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tvm_flow.backends.vulkan.backend import RUNTIME_PART
from tvm_flow.run.status import CError
from tvm_flow.run.trace import NO_CLOCK
from tvm_flow.toolchain.runtime_library import build_device

ARENA, WEIGHTS, STEP, PROMPT = range(4)
_CODES = {"int8": (0, 8), "int32": (0, 32), "float32": (2, 32)}
_LIBC = ctypes.CDLL(None)
_LIBC.aligned_alloc.restype, _LIBC.aligned_alloc.argtypes = c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
_LIBC.free.argtypes = (c_void_p,)


class DeviceError(Exception):
    """A status, and the message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _fields(text: str, kind: Any) -> list[tuple[str, Any]]:
    return [(name, kind) for name in text.split()]


class _Tensor(Structure):
    _fields_: ClassVar = [
        *_fields("space code bits ndim", c_uint8),
        ("device", u32),
        ("offset", u64),
        ("shape", c_int64 * 8),
    ]


class _Call(Structure):
    _fields_: ClassVar = _fields("kernel first_arg num_args", u32)


class _Row(Structure):
    _fields_: ClassVar = [("name", c_char_p), *_fields("arena_bytes prompt_bytes", u64)]


class _Segment(Structure):
    _fields_: ClassVar = [
        *_fields("device first_call num_calls first_copy num_copies reserved", u32),
        ("payload", c_void_p),
        ("payload_bytes", u64),
    ]


class _Library(Structure):
    _fields_: ClassVar = [
        *_fields("abi struct_bytes", u32),
        *_fields("target cpu_features", c_char_p),
        *_fields("arena_bytes step_bytes prompt_bytes weights_bytes", u64),
        *_fields("step_floats variant_floats num_tensors num_kernels num_prologue_calls num_calls num_args", u32),
        *_fields("num_folds num_inputs", u32),
        *_fields("tensors kernels kernel_names calls args folds inputs", c_void_p),
        ("output", u32),
        ("enter", c_void_p),
        *_fields("num_devices num_segments num_copies", u32),
        *_fields("devices segments copies", c_void_p),
    ]


_ALLOCATE = CFUNCTYPE(c_void_p, c_void_p, u64, u64)
_RELEASE = CFUNCTYPE(None, c_void_p, c_void_p)
_LOG = CFUNCTYPE(None, c_void_p, u32, c_char_p)


class _Services(Structure):
    _fields_: ClassVar = [
        ("struct_bytes", u32),
        ("user", c_void_p),
        ("parallel_launch", c_void_p),
        ("allocate", _ALLOCATE),
        ("release", _RELEASE),
        ("raise_", c_void_p),
        ("log", _LOG),
    ]


class _OpenInfo(Structure):
    _fields_: ClassVar = [
        *_fields("struct_bytes branches", u32),
        ("services", POINTER(_Services)),
        ("weights", c_void_p),
        *_fields("weights_bytes arena_bytes prompt_bytes", u64),
        ("type", c_void_p),
    ]


class _Plan(Structure):
    _fields_: ClassVar = [*_fields("struct_bytes row", u32), ("library", POINTER(_Library))]


class _Run(Structure):
    _fields_: ClassVar = [*_fields("struct_bytes segment first count step branch", u32), ("device_ns", POINTER(u64))]


_ERROR, _VOID = POINTER(CError), c_void_p


class DeviceType(Structure):
    """tvm_flow_device_type."""

    _fields_: ClassVar = [
        *_fields("abi struct_bytes", u32),
        ("name", c_char_p),
        ("open", CFUNCTYPE(c_int, POINTER(_OpenInfo), POINTER(_VOID), _ERROR)),
        ("close", CFUNCTYPE(None, _VOID)),
        ("bind", CFUNCTYPE(c_int, _VOID, POINTER(_Plan), POINTER(_VOID), _ERROR)),
        ("unbind", CFUNCTYPE(None, _VOID)),
        ("step", CFUNCTYPE(c_int, _VOID, u32, _VOID, _ERROR)),
        ("write", CFUNCTYPE(c_int, _VOID, u32, u32, _VOID, _ERROR)),
        ("read", CFUNCTYPE(c_int, _VOID, u32, u32, _VOID, _ERROR)),
        ("run", CFUNCTYPE(c_int, _VOID, POINTER(_Run), _ERROR)),
    ]


class Options(Structure):
    """tvm_flow_vulkan."""

    _fields_: ClassVar = [
        ("type", DeviceType),
        *_fields("device cache loader", c_char_p),
        *_fields("plain_products own_memory", u32),
    ]


@dataclass(frozen=True)
class Tensor:
    """A row of the library's table, of the device."""

    space: int
    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Plan:
    """Calls are tensors' rows, the output last; ``segments`` are numbers of calls, all of the device.

    ``weights`` lie ``skew`` bytes after the beginning of a page: 0 as where a file is mapped.
    """

    tensors: Sequence[Tensor]
    calls: Sequence[tuple[int, ...]]
    segments: Sequence[int]
    payload: bytes
    weights: bytes = b""
    skew: int = 0
    step_bytes: int = 0
    arena_bytes: int = 4096
    prompt_bytes: int = 0


@dataclass
class Memory:
    """What the services did. Allocation number ``fails`` is refused, counted from 0."""

    fails: int = -1
    taken: int = 0
    held: set[int] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    def allocate(self, _user: object, size: int, alignment: int) -> int | None:
        self.taken += 1
        if self.taken - 1 == self.fails:
            return None
        address: int = _LIBC.aligned_alloc(alignment, -(-size // alignment) * alignment)
        self.held.add(address)
        return address

    def release(self, _user: object, address: int) -> None:
        self.held.remove(address)
        _LIBC.free(address)

    def log(self, _user: object, _level: int, line: bytes) -> None:
        self.lines.append(line.decode())


@dataclass(frozen=True)
class Part:
    """A device's name, its library for this machine, and its options, the first of them the vtable."""

    name: str
    library: Callable[[], Path]
    options: Callable[..., Any]


VULKAN_PART = Part("vulkan", lambda: build_device("vulkan", RUNTIME_PART), Options)


class Driven:
    """An opened device with one bound plan; a context that closes both."""

    part = VULKAN_PART

    def __init__(self, plan: Plan, memory: Memory | None = None, branches: int = 1, **options: Any) -> None:
        self.plan, self.memory, self.error = plan, memory or Memory(), CError()
        self.type = DeviceType.in_dll(ctypes.CDLL(str(self.part.library())), f"tvm_flow_device_{self.part.name}")
        self.options = self.part.options(self.type, **options)
        self.options.type.struct_bytes = ctypes.sizeof(self.options)
        m = self.memory
        self.services = _Services(
            ctypes.sizeof(_Services), None, None, _ALLOCATE(m.allocate), _RELEASE(m.release), None, _LOG(m.log)
        )
        self.device, self.bound = c_void_p(), c_void_p()
        self.library = self._library(plan)
        weights = ctypes.c_char.from_buffer(mapped := mmap(-1, plan.skew + len(plan.weights) + 1))
        mapped[plan.skew : plan.skew + len(plan.weights)] = plan.weights
        self.kept.append(weights)
        info = _OpenInfo(
            *(ctypes.sizeof(_OpenInfo), branches, ctypes.pointer(self.services)),
            *(ctypes.addressof(weights) + plan.skew, len(plan.weights)),
            *(plan.arena_bytes, plan.prompt_bytes, ctypes.addressof(self.options)),
        )
        self._check(self.type.open(byref(info), byref(self.device), self.error))
        row = _Plan(ctypes.sizeof(_Plan), 1, ctypes.pointer(self.library))
        try:
            self._check(self.type.bind(self.device, byref(row), byref(self.bound), self.error))
        except DeviceError:
            self.type.close(self.device)
            raise

    def _library(self, plan: Plan) -> _Library:
        def table(kind: Any, rows: Sequence[Any]) -> Any:
            kept = (kind * len(rows))(*rows)
            self.kept.append(kept)
            return cast(kept, c_void_p)

        self.kept: list[Any] = []
        payload = ctypes.create_string_buffer(plan.payload, len(plan.payload))
        tensors = [
            _Tensor(t.space, *_CODES[t.dtype], len(t.shape), 1, t.offset, (c_int64 * 8)(*t.shape)) for t in plan.tensors
        ]
        firsts = np.cumsum([0, *map(len, plan.calls)])
        begins = np.cumsum([0, *plan.segments])
        address = cast(payload, c_void_p)
        segments = [
            _Segment(1, int(a), n, 0, 0, 0, address, len(plan.payload))
            for a, n in zip(begins, plan.segments, strict=False)
        ]
        self.kept.append(payload)
        return _Library(
            abi=3,
            struct_bytes=ctypes.sizeof(_Library),
            step_bytes=plan.step_bytes,
            weights_bytes=len(plan.weights),
            num_tensors=len(tensors),
            num_kernels=1,
            num_calls=len(plan.calls),
            num_args=int(firsts[-1]),
            tensors=table(_Tensor, tensors),
            kernel_names=table(c_char_p, [b"k0_toy"]),
            calls=table(_Call, [(0, int(f), len(c)) for f, c in zip(firsts, plan.calls, strict=False)]),
            args=table(u32, [row for call in plan.calls for row in call]),
            num_devices=2,
            num_segments=len(segments),
            devices=table(_Row, [(b"cpu", 0, 0), (self.part.name.encode(), plan.arena_bytes, plan.prompt_bytes)]),
            segments=table(_Segment, segments),
        )

    def _check(self, status: int) -> None:
        if status:
            assert self.error.status == status
            raise DeviceError(status, self.error.message.decode())

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.type.unbind(self.bound)
        self.type.close(self.device)
        assert not self.memory.held

    def step(self, block: bytes, branch: int = 0) -> None:
        self._check(self.type.step(self.bound, branch, cast(c_char_p(block), c_void_p), self.error))

    def write(self, row: int, values: Any, branch: int = 0) -> None:
        values = np.ascontiguousarray(values, self.plan.tensors[row].dtype)
        self._check(self.type.write(self.bound, row, branch, values.ctypes.data, self.error))

    def read(self, row: int, branch: int = 0) -> Any:
        tensor = self.plan.tensors[row]
        out = np.zeros(tensor.shape, tensor.dtype)
        self._check(self.type.read(self.bound, row, branch, out.ctypes.data, self.error))
        return out

    def run(self, segment: int = 0, first: int = 0, count: int | None = None, branch: int = 0) -> None:
        self._run(segment, first, count, branch, None)

    def timed(self, segment: int = 0, first: int = 0, count: int | None = None, branch: int = 0) -> int | None:
        """As `run`: ns by the device's own clock, None where it has none."""
        nanoseconds = u64(NO_CLOCK)
        self._run(segment, first, count, branch, ctypes.pointer(nanoseconds))
        return None if nanoseconds.value == NO_CLOCK else nanoseconds.value

    def _run(self, segment: int, first: int, count: int | None, branch: int, clock: Any) -> None:
        count = self.plan.segments[segment] if count is None else count
        what = _Run(ctypes.sizeof(_Run), segment, first, count, 0, branch, clock)
        self._check(self.type.run(self.bound, byref(what), self.error))
