"""An open bundle."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tvm_flow.errors import PromptError, RuntimeFailure
from tvm_flow.pack import Prompt, verify_bundle
from tvm_flow.pack.contents import Float32
from tvm_flow.pack.manifest import require_checked
from tvm_flow.pack.trust import Trust, verify_signature
from tvm_flow.run import native
from tvm_flow.run.draw import Draw, draw_callback
from tvm_flow.run.handle import Handle, Progress
from tvm_flow.run.info import check_sampler, describe
from tvm_flow.run.workers import Workers

if TYPE_CHECKING:
    from tvm_flow.sampler import SamplerConfig


class Bundle(Handle):
    """A bundle opened by the C runtime, for its steps: see `Handle` for what it shares with the decoder."""

    FUNCTION: ClassVar = native.STEP

    def __init__(self, directory: Path, runtime: ctypes.CDLL, pointer: ctypes.c_void_p) -> None:
        """Use `open`."""
        super().__init__(directory, runtime, pointer)
        self.info = describe(runtime, pointer)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        threads: int = 0,
        workers: Workers | None = None,
        sampler: SamplerConfig | None = None,
        unchecked: bool = False,
        trust: Trust | None = None,
    ) -> Bundle:
        """Verify ``directory`` and open it with ``workers``, or with so many ``threads`` (0: one for every core).

        One that was compiled with --check none has to be asked for: ``unchecked``. With ``trust`` only a bundle that
        is signed as it says is opened, and what was signed is what is opened.

        Raises SignatureError for one that is not, ConfigError showing both when ``sampler`` is not the bundle's,
        BundleError when it is incomplete, altered, unchecked or for another machine, RuntimeFailure when memory,
        threads or a CPU are short, BuildError without a runtime.
        """
        chosen = Workers.chosen(threads, workers)
        if trust is not None:
            verify_signature(directory, trust)
        manifest = verify_bundle(directory, platform.machine())
        require_checked(directory, manifest, unchecked)
        check_sampler(directory, manifest.sampler, sampler)
        return cls._open(directory, chosen, manifest.backends, trust)

    def velocity(self, step: int, branch: int, z: Float32, prompt: Prompt) -> Float32:
        """Velocity or noise float32 [output_shape] of latents ``z`` at ``step`` with the constants of ``branch``.

        Raises RuntimeFailure for a step, branch or shape out of range or a failing kernel, NotFiniteError as
        `generate`, PromptError for a prompt of another shape.
        """
        z, arrays = self._latents("z", z), self._prompt("prompt", prompt)
        out = np.empty(self.info.output_shape, np.float32)
        self._run_finite("tvm_flow_velocity", step, branch, z.ctypes.data, _c_prompt(arrays), out.ctypes.data)
        return out

    def generate(
        self,
        noise: Float32,
        cond: Prompt,
        uncond: Prompt,
        progress: Progress | None = None,
        draw: Draw | None = None,
        seed: int = 0,
    ) -> Float32:
        """Latents float32 [latent_shape] from ``noise``: the whole denoising loop.

        What steps draw comes from ``draw``, or from the runtime for ``seed`` (`tvm_flow.sampler.seeded_noise`).
        Ctrl-C, or whatever ``progress`` or ``draw`` raises, cancels and is raised here.
        Raises RuntimeFailure when a kernel fails or ``noise`` has another shape, PromptError for a prompt of
        another shape, NotFiniteError naming step, branch and kernel for a velocity or latent that is not finite.
        """
        noise, out = self._latents("noise", noise), np.empty(self.info.latent_shape, np.float32)
        arrays = self._prompt("cond", cond), self._prompt("uncond", uncond)
        drawn = draw_callback(draw, self.info.latent_shape, self._guard)
        request = native.CRequest(
            ctypes.sizeof(native.CRequest),
            noise.ctypes.data,
            _c_prompt(arrays[0]),
            _c_prompt(arrays[1]),
            drawn,
            None,
            seed,
        )

        callback, values = self._progress(progress), out.ctypes.data
        again = ctypes.byref(request), values, native.PROGRESS(), None
        self._run_finite("tvm_flow_generate", ctypes.byref(request), values, callback, None, again=again)
        return out

    def _latents(self, name: str, array: Float32) -> Float32:
        if array.dtype != np.float32 or array.shape != self.info.latent_shape:
            raise RuntimeFailure(
                f"{name}: expected float32 {self.info.latent_shape}, got {array.dtype} {array.shape}; "
                "use latents of the model that was packed"
            )
        return np.ascontiguousarray(array)

    def _prompt(self, name: str, prompt: Prompt) -> Prompt:
        shape = self.info.text_tokens, self.info.text_channels
        tokens, mask = np.asarray(prompt.tokens), np.asarray(prompt.mask)
        fits = (tokens.shape, mask.shape) == (shape, shape[:1])
        if not fits or {tokens.dtype, mask.dtype} != {np.dtype(np.float32)}:
            raise PromptError(
                f"{name}: expected float32 tokens {shape} and mask {shape[:1]}, got {tokens.dtype} "
                f"{tokens.shape} and {mask.dtype} {mask.shape}; embed it with the model's text encoder"
            )
        if not np.isfinite(tokens).all() or not (mask <= 0).all():
            raise PromptError(
                f"{name}: expected finite tokens and a mask of 0 and below, got NaN, infinity or more; embed it again"
            )
        return Prompt(np.ascontiguousarray(tokens), np.ascontiguousarray(mask))


def _c_prompt(prompt: Prompt) -> native.CPrompt:
    return native.CPrompt(prompt.tokens.ctypes.data, prompt.mask.ctypes.data)
