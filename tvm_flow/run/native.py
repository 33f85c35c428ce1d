"""tvm_flow.h and the headers beside it for ctypes: structures, callback types, and a table of prototypes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_void_p,
)
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm_flow.artifact import require_exec
from tvm_flow.errors import ConfigError
from tvm_flow.run.status import CError
from tvm_flow.toolchain.runtime_library import build_runtime

MAX_LATENT_DIMS = 8


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
        ("num_devices", u32),
        ("devices", c_void_p),
        *((name, c_void_p) for name in ("allocate", "release", "log", "user", "find")),
        ("memory_limit", u64),
        ("accept", c_void_p),
        ("accept_user", c_void_p),
    ]


class CIdentity(Structure):
    """tvm_flow_identity."""

    _fields_: ClassVar = [
        ("struct_bytes", u32),
        ("signature_bytes", u32),
        ("file", c_char_p),
        ("sha256", c_void_p),
        ("signature", c_void_p),
    ]


ACCEPT = CFUNCTYPE(c_int, c_void_p, POINTER(CIdentity), POINTER(CError))
"""tvm_flow_accept."""


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


class CDecoderDescription(Structure):
    """tvm_flow_decoder_description."""

    _fields_: ClassVar = [
        ("latent_shape", u32 * 4),
        *((name, u32) for name in ("chunk", "frames", "height", "width", "threads")),
        *((name, u64) for name in ("latent_floats", "frame_values", "arena_bytes", "weights_bytes")),
    ]


class CPrompt(Structure):
    """tvm_flow_prompt."""

    _fields_: ClassVar = [("tokens", c_void_p), ("mask", c_void_p)]


DRAW = CFUNCTYPE(c_int, c_void_p, u32, POINTER(c_float), u64)
"""tvm_flow_draw."""


class CRequest(Structure):
    """tvm_flow_request."""

    _fields_: ClassVar = [
        ("struct_bytes", u64),
        ("noise", c_void_p),
        ("cond", CPrompt),
        ("uncond", CPrompt),
        ("draw", DRAW),
        ("draw_user", c_void_p),
        ("seed", u64),
        ("preview", c_void_p),
        ("preview_user", c_void_p),
    ]


PROGRESS = CFUNCTYPE(c_int, c_void_p, u32, u32)
"""tvm_flow_progress."""


class CDecodeRequest(Structure):
    """tvm_flow_decode_request."""

    _fields_: ClassVar = [
        ("struct_bytes", u32),
        ("latents", c_void_p),
        ("frames", c_void_p),
        ("rgb8", c_void_p),
        ("progress", PROGRESS),
        ("user", c_void_p),
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
        ("device", c_char_p),
        ("started_ns", u64),
        ("ended_ns", u64),
        ("device_ns", u64),
    ]


TRACE = CFUNCTYPE(c_int, c_void_p, POINTER(CKernelCall))

CType = Any
"""A type that ctypes passes; it names no public base of them."""


@dataclass(frozen=True)
class Prototype:
    """A C function: its name, the types of its arguments, and of its result (None: void)."""

    name: str
    arguments: tuple[CType, ...]
    result: CType | None = c_int


@dataclass(frozen=True)
class Function:
    """A function of a bundle: a kind of handle, its ``name`` for people.

    ``prefix`` begins the names of its life cycle (open, close, describe, verify, set_trace, cancel), ``calls`` are its
    own: the handle comes before their arguments, and a CError after.
    """

    name: str
    prefix: str
    description: type[Structure]
    calls: tuple[Prototype, ...]

    def prototypes(self) -> Iterator[Prototype]:
        """All that its class calls."""
        yield Prototype(f"{self.prefix}_open", (c_char_p, POINTER(COptions), POINTER(c_void_p), _ERROR))
        yield Prototype(f"{self.prefix}_close", (c_void_p,), None)
        yield Prototype(f"{self.prefix}_describe_sized", (c_void_p, POINTER(self.description), c_size_t), None)
        yield Prototype(f"{self.prefix}_verify", (c_void_p, _ERROR))
        yield Prototype(f"{self.prefix}_set_trace", (c_void_p, TRACE, c_void_p), None)
        yield Prototype(f"{self.prefix}_cancel", (c_void_p,), None)
        for call in self.calls:
            yield Prototype(call.name, (c_void_p, *call.arguments, _ERROR), call.result)


_ERROR = POINTER(CError)
STEP = Function(
    "bundle",
    "tvm_flow",
    CDescription,
    (
        Prototype("tvm_flow_velocity", (u32, u32, c_void_p, POINTER(CPrompt), c_void_p)),
        Prototype("tvm_flow_generate", (POINTER(CRequest), c_void_p, PROGRESS, c_void_p)),
    ),
)
DECODER = Function(
    "decoder",
    "tvm_flow_decoder",
    CDecoderDescription,
    (Prototype("tvm_flow_decode_with", (POINTER(CDecodeRequest),)),),
)
FUNCTIONS = (STEP, DECODER)
"""The prologue is the step's own. A fourth function is a row here and a class over `tvm_flow.run.handle.Handle`."""
WITHOUT_HANDLE = (
    Prototype("tvm_flow_gaussian", (u64, u64, c_void_p, u64), None),
    Prototype("tvm_flow_version", (), u32),
    Prototype("tvm_flow_cause_of", (_ERROR,)),
)


def load_runtime() -> ctypes.CDLL:
    """The compiled runtime with its prototypes.

    Raises BuildError when it cannot be compiled, ConfigError naming its file when it cannot be loaded.
    """
    path = build_runtime()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        require_exec(path, "set TVM_FLOW_CACHE to a folder elsewhere")
        raise ConfigError(f"{path}: expected a library for this machine, got: {error}; delete it") from error
    for prototype in (*WITHOUT_HANDLE, *(each for function in FUNCTIONS for each in function.prototypes())):
        function = getattr(library, prototype.name)
        function.argtypes, function.restype = prototype.arguments, prototype.result
    return library
