"""tvm_flow.h for ctypes: structures, callback types, prototypes, and status codes as exceptions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_uint8,
    c_void_p,
)
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

from tvm_flow.errors import BundleError, RuntimeFailure, TvmFlowError
from tvm_flow.toolchain.runtime_library import build_runtime

MAX_LATENT_DIMS = 8


class Status(IntEnum):
    """tvm_flow_status."""

    OK = 0
    INVALID_ARGUMENT = 1
    FILE_ERROR = 2
    CORRUPT = 3
    WRONG_SCHEMA = 4
    WRONG_ABI = 5
    BAD_LIBRARY = 6
    WRONG_CPU = 7
    NO_MEMORY = 8
    NO_THREAD = 9
    KERNEL_FAILED = 10
    CANCELLED = 11
    NOT_GOLDEN = 12


_BUNDLE_FAULTS = {
    *(Status.FILE_ERROR, Status.CORRUPT, Status.WRONG_SCHEMA, Status.WRONG_ABI),
    *(Status.BAD_LIBRARY, Status.WRONG_CPU, Status.NOT_GOLDEN),
}


class CError(Structure):
    """tvm_flow_error."""

    _fields_: ClassVar = [("status", c_int), ("message", c_char * 508)]


class COptions(Structure):
    """tvm_flow_options."""

    _fields_: ClassVar = [
        ("struct_bytes", u32),
        ("threads", u32),
        ("weights_checked", u32),
        ("num_linked", u32),
        ("linked", c_void_p),
        ("cpus", POINTER(u32)),
        ("num_cpus", u32),
        ("tasks_per_thread", u32),
    ]


class CDescription(Structure):
    """tvm_flow_description."""

    _fields_: ClassVar = [
        ("latent_ndim", u32),
        ("latent_shape", u32 * MAX_LATENT_DIMS),
        ("latent_floats", u64),
        ("output_floats", u64),
        ("text_tokens", u32),
        ("text_channels", u32),
        ("steps", u32),
        ("branches", u32),
        ("groups", u32),
        ("guided_channels", u32),
        ("cfg_scale", c_double),
        ("threads", u32),
        ("arena_bytes", u64),
        ("step_bytes", u64),
        ("prompt_bytes", u64),
        ("weights_bytes", u64),
        ("sampler_json", c_char_p),
        ("timesteps", POINTER(c_float)),
        ("updates", POINTER(c_double * 5)),
    ]


class CPrompt(Structure):
    """tvm_flow_prompt."""

    _fields_: ClassVar = [("tokens", c_void_p), ("mask", c_void_p)]


DRAW = CFUNCTYPE(c_int, c_void_p, u32, POINTER(c_float), u64)
"""tvm_flow_draw."""


class CRequest(Structure):
    """tvm_flow_request."""

    _fields_: ClassVar = [
        ("noise", c_void_p),
        ("cond", CPrompt),
        ("uncond", CPrompt),
        ("draw", DRAW),
        ("draw_user", c_void_p),
        ("seed", u64),
    ]


class CView(Structure):
    """tvm_flow_view."""

    _fields_: ClassVar = [
        ("data", c_void_p),
        ("shape", POINTER(c_int64)),
        ("ndim", c_int32),
        ("dtype_code", c_uint8),
        ("dtype_bits", c_uint8),
    ]


class CKernelCall(Structure):
    """tvm_flow_kernel_call."""

    _fields_: ClassVar = [
        ("step", u32),
        ("branch", u32),
        ("call", u32),
        ("num_args", u32),
        ("kernel", c_char_p),
        ("args", POINTER(CView)),
    ]


PROGRESS = CFUNCTYPE(c_int, c_void_p, u32, u32)
TRACE = CFUNCTYPE(c_int, c_void_p, POINTER(CKernelCall))


def options(threads: int, cpus: Sequence[int], tasks_per_thread: int) -> COptions:
    """Options for a bundle that was verified just now. Raises RuntimeFailure for a number that C could not hold."""
    for name, values in (("threads", [threads]), ("cpus", cpus), ("tasks_per_thread", [tasks_per_thread])):
        if wrong := [value for value in values if not 0 <= value < 2**32]:
            raise RuntimeFailure(f"{name}: expected whole numbers from 0 to 2**32 - 1, got {wrong[0]}; correct it")
    return COptions(
        struct_bytes=ctypes.sizeof(COptions),
        threads=threads,
        weights_checked=1,
        cpus=(u32 * len(cpus))(*cpus),
        num_cpus=len(cpus),
        tasks_per_thread=tasks_per_thread,
    )


def load_runtime() -> ctypes.CDLL:
    """The compiled runtime with its prototypes. Raises BuildError when it cannot be compiled."""
    library = ctypes.CDLL(str(build_runtime()))
    handle, error = c_void_p, POINTER(CError)
    prototypes: dict[str, list[Any]] = {
        "open": [c_char_p, POINTER(COptions), POINTER(c_void_p), error],
        "velocity": [handle, u32, u32, c_void_p, POINTER(CPrompt), c_void_p, error],
        "generate": [handle, POINTER(CRequest), c_void_p, PROGRESS, c_void_p, error],
        "verify": [handle, error],
        "close": [handle],
        "describe": [handle, POINTER(CDescription)],
        "set_trace": [handle, TRACE, c_void_p],
        "gaussian": [u64, u64, c_void_p, u64],
    }
    without_status = ("close", "describe", "set_trace", "gaussian")
    for name, arguments in prototypes.items():
        function = getattr(library, f"tvm_flow_{name}")
        function.argtypes = arguments
        function.restype = None if name in without_status else c_int
    return library


def as_exception(directory: Path, error: CError) -> TvmFlowError:
    """BundleError when the bundle is at fault, RuntimeFailure otherwise, with the runtime's own message."""
    kind = BundleError if error.status in _BUNDLE_FAULTS else RuntimeFailure
    return kind(f"{directory}: {error.message.decode(errors='replace')}")
