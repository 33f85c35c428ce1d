"""The decoder of a bundle: latents to frames, by the same C runtime that runs on a board."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import BundleError, RuntimeFailure
from tvm_flow.pack import read_decoder, verify_bundle
from tvm_flow.pack.contents import Float32
from tvm_flow.pack.manifest import require_checked
from tvm_flow.pack.trust import Trust, verify_signature
from tvm_flow.run import native
from tvm_flow.run.handle import Handle, Progress
from tvm_flow.run.workers import Workers


class BundleDecoder(Handle):
    """A bundle's decoder, opened by the C runtime: see `Handle` for what it shares with `Bundle`.

    ``latent_shape`` is [C, T, h, w], ``video_shape`` [frames, height, width, 3]; ``chunk`` latent frames are decoded
    at a time, in ``arena_bytes`` of memory. In a trace ``step`` counts chunks.
    """

    FUNCTION: ClassVar = native.DECODER

    def __init__(self, directory: Path, runtime: ctypes.CDLL, pointer: ctypes.c_void_p) -> None:
        """Use `open`."""
        super().__init__(directory, runtime, pointer)
        out = native.CDecoderDescription()
        runtime.tvm_flow_decoder_describe_sized(pointer, ctypes.byref(out), ctypes.sizeof(out))
        self.latent_shape = tuple(out.latent_shape)
        self.video_shape = (out.frames, out.height, out.width, 3)
        self.chunk, self.threads, self.arena_bytes = out.chunk, out.threads, out.arena_bytes

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        threads: int = 0,
        workers: Workers | None = None,
        unchecked: bool = False,
        trust: Trust | None = None,
    ) -> BundleDecoder:
        """Verify the bundle ``directory`` and open its decoder with ``threads`` or ``workers``, as `Bundle.open`.

        Raises BundleError when the bundle has no decoder or is incomplete, altered, unchecked or for another machine,
        RuntimeFailure when memory or threads are short, BuildError when the runtime cannot be compiled.
        """
        chosen = Workers.chosen(threads, workers)
        if trust is not None:
            verify_signature(directory, trust)
        manifest = verify_bundle(directory, platform.machine())
        require_checked(directory, manifest, unchecked)
        if read_decoder(directory) is None:
            raise BundleError(f"{directory}: expected a bundle with a decoder, got one without; compile it with one")
        return cls._open(directory, chosen, manifest.backends, trust)

    def decode(self, latents: Float32, progress: Progress | None = None) -> Float32:
        """Frames float32 [video_shape] in 0..1 of ``latents`` float32 [latent_shape].

        ``progress`` sees the chunks that are done and their number. Ctrl-C, or whatever it raises, cancels before the
        next kernel and is raised here. Raises RuntimeFailure for latents of another shape or a failing kernel,
        NotFiniteError naming chunk and kernel for a frame that is not finite.
        """
        out: Float32 = np.empty(self.video_shape, np.float32)
        self._decode(latents, native.CDecodeRequest(frames=out.ctypes.data), progress)
        return out

    def decode_rgb8(self, latents: Float32, progress: Progress | None = None) -> NDArray[np.uint8]:
        """The same as bytes, rounded to nearest."""
        out: NDArray[np.uint8] = np.empty(self.video_shape, np.uint8)
        self._decode(latents, native.CDecodeRequest(rgb8=out.ctypes.data), progress)
        return out

    def _decode(self, latents: Float32, request: native.CDecodeRequest, progress: Progress | None) -> None:
        if latents.dtype != np.float32 or latents.shape != self.latent_shape:
            raise RuntimeFailure(
                f"latents: expected float32 {self.latent_shape}, got {latents.dtype} {latents.shape}; use latents of "
                "the bundle that the decoder is part of"
            )
        whole = np.ascontiguousarray(latents)
        request.struct_bytes, request.latents = ctypes.sizeof(request), whole.ctypes.data
        silent = native.CDecodeRequest.from_buffer_copy(request)
        request.progress = self._progress(progress)
        self._run_finite("tvm_flow_decode_with", ctypes.byref(request), again=(ctypes.byref(silent),))
