"""The decoder of a bundle: latents to frames, by the same C runtime that runs on a board."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_void_p
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import BundleError, RuntimeFailure
from tvm_flow.pack import read_decoder, verify_bundle
from tvm_flow.pack.contents import Float32
from tvm_flow.run import native
from tvm_flow.run.trace import TracedCall, kernel_call


class CDecoderDescription(Structure):
    """tvm_flow_decoder_description."""

    _fields_: ClassVar = [
        ("latent_shape", u32 * 4),
        *((name, u32) for name in ("chunk", "frames", "height", "width", "threads")),
        *((name, u64) for name in ("latent_floats", "frame_values", "arena_bytes", "weights_bytes")),
    ]


class BundleDecoder:
    """A bundle's decoder, opened by the C runtime: a context manager; one call at a time.

    ``latent_shape`` is [C, T, h, w], ``video_shape`` [frames, height, width, 3]; ``chunk`` latent frames are decoded
    at a time, in ``arena_bytes`` of memory.
    """

    def __init__(self, directory: Path, runtime: ctypes.CDLL, handle: c_void_p) -> None:
        """Use `open`."""
        self.directory, self._runtime, self._handle = directory, runtime, handle
        self._raised: BaseException | None = None
        out = CDecoderDescription()
        runtime.tvm_flow_decoder_describe(handle, ctypes.byref(out))
        self.latent_shape = tuple(out.latent_shape)
        self.video_shape = (out.frames, out.height, out.width, 3)
        self.chunk, self.threads, self.arena_bytes = out.chunk, out.threads, out.arena_bytes

    @classmethod
    def open(cls, directory: Path, *, threads: int = 0, cpus: Sequence[int] = ()) -> BundleDecoder:
        """Verify the bundle ``directory`` and open its decoder with ``threads`` workers on ``cpus``, as `Bundle.open`.

        Raises BundleError when the bundle has no decoder or is incomplete, altered or for another machine,
        RuntimeFailure when memory or threads are short, BuildError when the runtime cannot be compiled.
        """
        verify_bundle(directory, platform.machine())
        if read_decoder(directory) is None:
            raise BundleError(f"{directory}: expected a bundle with a decoder, got one without; compile it with one")
        runtime, handle, error = _load_runtime(), c_void_p(), native.CError()
        options = native.options(threads, cpus, 0)
        path = str(directory).encode()
        if runtime.tvm_flow_decoder_open(path, ctypes.byref(options), ctypes.byref(handle), ctypes.byref(error)):
            raise native.as_exception(directory, error)
        return cls(directory, runtime, handle)

    def __enter__(self) -> BundleDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the handle; a second call does nothing."""
        handle, self._handle = self._handle, c_void_p()
        self._runtime.tvm_flow_decoder_close(handle)

    def decode(self, latents: Float32) -> Float32:
        """Frames float32 [video_shape] in 0..1 of ``latents`` float32 [latent_shape].

        Raises RuntimeFailure for latents of another shape or a failing kernel.
        """
        out: Float32 = self._decode(self._runtime.tvm_flow_decode, latents, np.float32)
        return out

    def decode_rgb8(self, latents: Float32) -> NDArray[np.uint8]:
        """The same as bytes, rounded to nearest."""
        out: NDArray[np.uint8] = self._decode(self._runtime.tvm_flow_decode_rgb8, latents, np.uint8)
        return out

    def verify(self) -> None:
        """Decode the golden latents. Raises BundleError when the frames differ by a single bit."""
        error = native.CError()
        self._finish(self._runtime.tvm_flow_decoder_verify(self._open_handle(), error), error)

    @contextmanager
    def trace(self, callback: Callable[[TracedCall], object]) -> Iterator[None]:
        """Inside, show every kernel call to ``callback``, ``step`` counting chunks; what it raises is raised there."""

        def report(_user: object, seen: Any) -> int:
            try:
                callback(kernel_call(seen.contents))
            except BaseException as error:
                self._raised = error
                return 1
            return 0

        function = native.TRACE(report)
        self._runtime.tvm_flow_decoder_set_trace(self._open_handle(), function, None)
        try:
            yield
        finally:
            if self._handle:
                self._runtime.tvm_flow_decoder_set_trace(self._handle, native.TRACE(), None)

    def _decode(self, function: Any, latents: Float32, dtype: type[np.generic]) -> NDArray[Any]:
        if latents.dtype != np.float32 or latents.shape != self.latent_shape:
            raise RuntimeFailure(
                f"latents: expected float32 {self.latent_shape}, got {latents.dtype} {latents.shape}; use latents of "
                "the bundle that the decoder is part of"
            )
        whole, out, error = np.ascontiguousarray(latents), np.empty(self.video_shape, dtype), native.CError()
        self._finish(function(self._open_handle(), whole.ctypes.data, out.ctypes.data, error), error)
        return out

    def _finish(self, status: int, error: native.CError) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        if status:
            raise native.as_exception(self.directory, error)

    def _open_handle(self) -> c_void_p:
        if not self._handle:
            raise RuntimeFailure(f"{self.directory}: expected an open decoder, got a closed one; open it again")
        return self._handle


def _load_runtime() -> ctypes.CDLL:
    """The runtime with the prototypes of tvm_flow_decoder.h."""
    library, handle, error = native.load_runtime(), c_void_p, POINTER(native.CError)
    prototypes: dict[str, list[Any]] = {
        "decoder_open": [ctypes.c_char_p, POINTER(native.COptions), POINTER(c_void_p), error],
        "decode": [handle, c_void_p, c_void_p, error],
        "decode_rgb8": [handle, c_void_p, c_void_p, error],
        "decoder_verify": [handle, error],
        "decoder_close": [handle],
        "decoder_describe": [handle, POINTER(CDecoderDescription)],
        "decoder_set_trace": [handle, native.TRACE, c_void_p],
    }
    without_status = ("decoder_close", "decoder_describe", "decoder_set_trace")
    for name, arguments in prototypes.items():
        function = getattr(library, f"tvm_flow_{name}")
        function.argtypes = arguments
        function.restype = None if name in without_status else ctypes.c_int
    return library
