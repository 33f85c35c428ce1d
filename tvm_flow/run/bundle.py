"""An open bundle."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_flow.errors import PromptError, RuntimeFailure
from tvm_flow.pack import Prompt, verify_bundle
from tvm_flow.pack.contents import Float32
from tvm_flow.run import native
from tvm_flow.run.draw import Draw, draw_callback
from tvm_flow.run.info import check_sampler, describe
from tvm_flow.run.interrupt import Interrupt, deferred_interrupt
from tvm_flow.run.trace import TracedCall, kernel_call

if TYPE_CHECKING:
    from tvm_flow.sampler import SamplerConfig

Progress = Callable[[int, int], object]
"""Called after each step with the number of steps done and their total; what it raises cancels."""


class Bundle:
    """A bundle opened by the C runtime: a context manager; one call at a time, any number of bundles."""

    def __init__(self, directory: Path, runtime: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        """Use `open`."""
        self.directory = directory
        self._runtime = runtime
        self._handle = handle
        self._busy = threading.Lock()
        self._raised: BaseException | None = None
        self._interrupt = Interrupt()
        self.info = describe(runtime, handle)

    @classmethod
    def open(
        cls, directory: Path, *, threads: int = 0, cpus: Sequence[int] = (), tasks_per_thread: int = 0,
        sampler: SamplerConfig | None = None) -> Bundle:  # fmt: skip
        """Verify ``directory`` and open it with ``threads`` workers (0: one for each of ``cpus``, or for every core).

        Worker i is bound to ``cpus[i]``; the calling thread is worker 0, bound while kernels run. ``tasks_per_thread``
        cuts parallel loops finer, so that fast cores take more (0: where cores differ). No bit of the result changes.
        Raises ConfigError showing both when ``sampler`` is not the bundle's, BundleError when it is incomplete, altered
        or for another machine, RuntimeFailure when memory, threads or a CPU are short, BuildError without a runtime.
        """
        manifest = verify_bundle(directory, platform.machine())
        check_sampler(directory, manifest.sampler, sampler)
        runtime, handle, error = native.load_runtime(), ctypes.c_void_p(), native.CError()
        options = native.options(threads, cpus, tasks_per_thread)
        path = str(directory).encode()
        if runtime.tvm_flow_open(path, ctypes.byref(options), ctypes.byref(handle), ctypes.byref(error)):
            raise native.as_exception(directory, error)
        return cls(directory, runtime, handle)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the handle; a second call does nothing."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        self._runtime.tvm_flow_close(handle)

    def velocity(self, step: int, branch: int, z: Float32, prompt: Prompt) -> Float32:
        """Velocity or noise float32 [output_shape] of latents ``z`` at ``step`` with the constants of ``branch``.

        Raises RuntimeFailure for a step, branch or shape out of range or a failing kernel, PromptError for a
        prompt of another shape.
        """
        z, arrays = self._latents("z", z), self._prompt("prompt", prompt)
        out = np.empty(self.info.output_shape, np.float32)
        with self._call() as (handle, error):
            c_prompt = _c_prompt(arrays)
            status = self._runtime.tvm_flow_velocity(
                handle, step, branch, z.ctypes.data, c_prompt, out.ctypes.data, error
            )
            self._finish(status, error)
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
        Ctrl-C, or whatever ``progress`` or ``draw`` raises, cancels after the current step and is raised here.
        Raises RuntimeFailure when a kernel fails or ``noise`` has another shape, PromptError for a prompt of
        another shape.
        """
        noise, out = self._latents("noise", noise), np.empty(self.info.latent_shape, np.float32)
        arrays = self._prompt("cond", cond), self._prompt("uncond", uncond)
        drawn = draw_callback(draw, self.info.latent_shape, self._guard)
        request = native.CRequest(noise.ctypes.data, _c_prompt(arrays[0]), _c_prompt(arrays[1]), drawn, None, seed)
        with self._call() as (handle, error):

            def report(_user: object, done: int, steps: int) -> int:
                return self._guard(lambda: progress and progress(done, steps))

            callback = native.PROGRESS(report)
            status = self._runtime.tvm_flow_generate(
                handle, ctypes.byref(request), out.ctypes.data, callback, None, error
            )
            self._finish(status, error)
        return out

    def verify(self) -> None:
        """Run the golden input. Raises BundleError when the latents differ by a single bit."""
        with self._call() as (handle, error):
            self._finish(self._runtime.tvm_flow_verify(handle, error), error)

    @contextmanager
    def trace(self, callback: Callable[[TracedCall], object]) -> Iterator[None]:
        """Inside, show every kernel call to ``callback``; what it raises stops the run and is raised there."""

        def report(_user: object, seen: Any) -> int:
            return self._guard(lambda: callback(kernel_call(seen.contents)))

        function = native.TRACE(report)
        self._runtime.tvm_flow_set_trace(self._open_handle(), function, None)
        try:
            yield
        finally:
            if self._handle:
                self._runtime.tvm_flow_set_trace(self._handle, native.TRACE(), None)

    def _guard(self, action: Callable[[], object]) -> int:
        """Run a user's callback; 1 asks the runtime to stop, with the reason kept for `_finish`."""
        try:
            action()
        except BaseException as error:
            self._raised = error
            return 1
        return int(self._interrupt.pending)

    @contextmanager
    def _call(self) -> Iterator[tuple[ctypes.c_void_p, native.CError]]:
        handle = self._open_handle()
        with deferred_interrupt() as interrupt:
            if not self._busy.acquire(blocking=False):
                raise RuntimeFailure(f"{self.directory}: expected one call at a time, got a second; open it twice")
            try:
                self._raised, self._interrupt = None, interrupt
                yield handle, native.CError()
            finally:
                self._busy.release()

    def _finish(self, status: int, error: native.CError) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        if status:
            raise native.as_exception(self.directory, error)

    def _open_handle(self) -> ctypes.c_void_p:
        if not self._handle:
            raise RuntimeFailure(f"{self.directory}: expected an open bundle, got a closed one; open it again")
        return self._handle

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
        return Prompt(np.ascontiguousarray(tokens), np.ascontiguousarray(mask))


def _c_prompt(prompt: Prompt) -> native.CPrompt:
    return native.CPrompt(prompt.tokens.ctypes.data, prompt.mask.ctypes.data)
