"""The device npu_arm in Arm's emulation layer, driven by its vtable: one graph, called a few times."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tvm_flow.backends.npu.arm.npu_device import build_emulated_device
from tvm_flow.bench.driven import ARENA, DeviceType, Driven, Part, Plan, Tensor

Array = np.ndarray[Any, Any]


class NpuOptions(ctypes.Structure):
    """tvm_flow_npu_arm."""

    _fields_: ClassVar = [
        ("type", DeviceType),
        *((name, ctypes.c_char_p) for name in ("device", "cache", "loader", "layers")),
    ]


class NpuDriven(Driven):
    """See `tvm_flow.bench.driven.Driven`."""

    part = Part("npu_arm", build_emulated_device, NpuOptions)


class Table:
    """A segment's payload: ``vgf`` for each of ``calls``, which stays where it is as long as this does."""

    def __init__(self, vgf: bytes, calls: int = 1) -> None:
        room = ctypes.create_string_buffer(len(vgf) + 64)
        start = -ctypes.addressof(room) % 64
        ctypes.memmove(ctypes.addressof(room) + start, vgf, len(vgf))
        self.kept = room
        self.payload = struct.pack("=QQ", ctypes.addressof(room) + start, len(vgf)) * calls


def in_a_row(arrays: Sequence[Array], spaces: Sequence[int]) -> tuple[list[Tensor], dict[int, int]]:
    """Tensors of ``arrays`` in ``spaces``, at multiples of 64, and how long each space is."""
    tensors, ends = [], dict.fromkeys((ARENA, *spaces), 0)
    for array, space in zip(arrays, spaces, strict=True):
        tensors.append(Tensor(space, ends[space], array.shape, str(array.dtype)))
        ends[space] += -(-array.nbytes // 64) * 64
    return tensors, ends


def plan_of(table: Table, arrays: Sequence[Array], spaces: Sequence[int]) -> Plan:
    """One call of ``arrays``, the output last."""
    tensors, ends = in_a_row(arrays, spaces)
    return Plan(tensors, [tuple(range(len(arrays)))], [1], table.payload, arena_bytes=ends[ARENA])
