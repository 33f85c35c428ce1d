"""What every function of a bundle has: opening, one call at a time, verifying, tracing, Ctrl-C and closing.

A function of a bundle (its step, its decoder) is a row of `native.FUNCTIONS` and a class over `Handle` with the calls
that are its own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from tvm_flow.causes import Cause
from tvm_flow.errors import NotFiniteError, RuntimeFailure, TvmFlowError
from tvm_flow.pack.trust import Trust
from tvm_flow.run import native
from tvm_flow.run.accepting import Acceptance
from tvm_flow.run.devices import device_pointers
from tvm_flow.run.interrupt import Interrupt, deferred_interrupt
from tvm_flow.run.not_finite import FoundError, NotFiniteFinder
from tvm_flow.run.status import CError, Status, as_exception
from tvm_flow.run.trace import TracedCall, kernel_call
from tvm_flow.run.turn import Turn
from tvm_flow.run.workers import Workers

if TYPE_CHECKING:
    from ctypes import _Pointer

Progress = Callable[[int, int], object]
"""Called after each step or chunk with the number of those done and their total; what it raises cancels."""


@dataclass(frozen=True, eq=False)
class _Tracer:
    """A block of `Handle.trace`: two of them are different ones, also with the same callback."""

    callback: Callable[[TracedCall], object]


class Handle:
    """A context manager; one call at a time from whatever thread, any number of handles.

    Ctrl-C in the main thread stops a call and is raised by it. Closing from another thread stops it too.
    """

    FUNCTION: ClassVar[native.Function]

    def __init__(self, directory: Path, runtime: ctypes.CDLL, pointer: ctypes.c_void_p) -> None:
        """Use `open`."""
        self.directory = directory
        self._runtime, self._pointer = runtime, pointer
        self._turn = Turn(directory, self.FUNCTION.name)
        self._tracers: list[_Tracer] = []
        self._hook = native.TRACE()
        self._raised: BaseException | None = None
        self._interrupt = Interrupt()
        self._acceptance: Acceptance | None = None

    @classmethod
    def _open(cls, directory: Path, workers: Workers, backends: Sequence[str], trust: Trust | None) -> Self:
        """Open the bundle ``directory``, which was verified just now, with the devices of ``backends``."""
        runtime, pointer, error, options = native.load_runtime(), ctypes.c_void_p(), CError(), workers.options()
        acceptance = None if trust is None else Acceptance(trust)
        if acceptance is not None:
            acceptance.set(options)
        devices = device_pointers(backends)
        options.num_devices, options.devices = len(devices), ctypes.addressof(devices)
        call = getattr(runtime, f"{cls.FUNCTION.prefix}_open")
        if call(os.fsencode(directory), ctypes.byref(options), ctypes.byref(pointer), ctypes.byref(error)):
            raise _failure(runtime, directory, error)
        opened = cls(directory, runtime, pointer)
        opened._acceptance = acceptance
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the handle; a second call does nothing.

        A call that another thread has under way is stopped before its next kernel, waited for, and raises
        RuntimeFailure there. Raises RuntimeFailure in a callback of the handle's own call.
        """
        self._turn.close(lambda: getattr(self._runtime, f"{self.FUNCTION.prefix}_close")(self._pointer), self._cancel)

    def _cancel(self) -> None:
        getattr(self._runtime, f"{self.FUNCTION.prefix}_cancel")(self._pointer)

    def verify(self) -> None:
        """Run the golden input. Raises BundleError when what comes out differs by a single bit."""
        self._run_finite(f"{self.FUNCTION.prefix}_verify")

    @contextmanager
    def trace(self, callback: Callable[[TracedCall], object]) -> Iterator[None]:
        """Inside, show every kernel call to ``callback``; what it raises stops the run and is raised there.

        Calls that are under way when the block is entered are not shown. Of several blocks, also of those that end in
        another order than they began, the one entered last sees the calls.
        """
        self._turn.require_open()
        mine = _Tracer(callback)
        self._tracers.append(mine)
        try:
            yield
        finally:
            self._tracers.remove(mine)

    def _run(self, name: str, *arguments: object) -> None:
        """The C function ``name`` with the handle before ``arguments`` and its error after them."""
        error = CError()
        with self._turn, deferred_interrupt(self._cancel) as interrupt:
            self._raised, self._interrupt = None, interrupt
            self._hook = self._make_hook()
            getattr(self._runtime, f"{self.FUNCTION.prefix}_set_trace")(self._pointer, self._hook, None)
            status = getattr(self._runtime, name)(self._pointer, *arguments, error)
            self._finish(status, error)

    def _run_finite(self, name: str, *arguments: object, again: Sequence[object] | None = None) -> None:
        """`_run`; where it is NOT_FINITE it runs once more, every kernel looked at, and the error names the first.

        ``again`` are the arguments of that run: those without a callback for progress.
        """
        try:
            self._run(name, *arguments)
        except NotFiniteError as error:
            found = self._first_not_finite(name, arguments if again is None else again)
            said = str(error).partition("; trace the kernels")[0]
            raise NotFiniteError(f"{said}; {found}", error.cause) from None

    def _first_not_finite(self, name: str, arguments: Sequence[object]) -> str:
        try:
            with self.trace(NotFiniteFinder()):
                self._run(name, *arguments)
        except FoundError as found:
            return f"{found}. Compare what goes in with what was calibrated for: prompt, sampler, latents"
        except NotFiniteError:
            pass
        return "no kernel makes one of numbers: look at what was given: latents or noise, and prompt"

    def _make_hook(self) -> ctypes._CFunctionType:
        """What the runtime calls after each kernel: nothing at all when nobody looks."""
        if not self._tracers:
            return native.TRACE()
        tracer = self._tracers[-1]

        def report(_user: object, seen: _Pointer[native.CKernelCall]) -> int:
            return self._guard(lambda: tracer.callback(kernel_call(seen.contents)))

        return native.TRACE(report)

    def _progress(self, progress: Progress | None) -> ctypes._CFunctionType:
        """``progress`` for C; None calls nothing."""
        if progress is None:
            return native.PROGRESS()

        def report(_user: object, done: int, total: int) -> int:
            return self._guard(lambda: progress(done, total))

        return native.PROGRESS(report)

    def _guard(self, action: Callable[[], object]) -> int:
        """Run a user's callback; 1 asks the runtime to stop, with the reason kept for `_finish`."""
        try:
            action()
        except BaseException as error:
            self._raised = error
            return 1
        return int(self._interrupt.pending or self._turn.closing)

    def _finish(self, status: int, error: CError) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        if status == Status.CANCELLED and self._turn.closing:
            raise RuntimeFailure(f"{self.directory}: expected to stay open during a call, got closed; close it after")
        if status:
            raise _failure(self._runtime, self.directory, error)


def _failure(runtime: ctypes.CDLL, directory: Path, error: CError) -> TvmFlowError:
    return as_exception(directory, error, Cause(runtime.tvm_flow_cause_of(error)))
