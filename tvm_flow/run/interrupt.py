"""Ctrl-C while C code runs."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASK_AGAIN = 0.02
"""Seconds until a call that Ctrl-C is to stop is asked again: one that has not begun yet forgets it."""
UNSET = -1
"""What set_wakeup_fd gives where there was none."""


class Interrupt:
    """Set once SIGINT has arrived."""

    def __init__(self) -> None:
        self.pending = False


@contextmanager
def deferred_interrupt(cancel: Callable[[], object] | None = None) -> Iterator[Interrupt]:
    """Keep KeyboardInterrupt out of ctypes callbacks, where it would be printed and lost.

    Inside, SIGINT only sets ``pending`` and has ``cancel`` called, also while the main thread is in C; on leaving, a
    pending interrupt is raised as KeyboardInterrupt. Outside the main thread, or under a handler of the caller's own,
    nothing changes.
    """
    interrupt = Interrupt()

    def remember(_number: int, _frame: FrameType | None) -> None:
        interrupt.pending = True

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        if cancel is None:
            yield interrupt
        else:
            with _cancelling(cancel):
                yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupt.pending:
            raise KeyboardInterrupt from None


@contextmanager
def _cancelling(cancel: Callable[[], object]) -> Iterator[None]:
    """Call ``cancel`` on a thread of its own when SIGINT arrives: Python's handlers wait until C code returns."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        asked = False
        while True:
            if not select.select([reading], [], [], ASK_AGAIN if asked else None)[0]:
                cancel()
                continue
            numbers = os.read(reading, 64)
            if not numbers:
                return
            if before != UNSET:
                os.write(before, numbers)
            if signal.SIGINT in numbers:
                asked = True
                cancel()

    watcher = threading.Thread(target=watch, name="tvm-flow-interrupt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        watcher.join()
        os.close(reading)
