"""Ctrl-C while C code runs."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType

ASK_AGAIN = 0.02
"""Seconds until a call that Ctrl-C is to stop is asked again: one that has not begun yet forgets it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
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
    pending interrupt is raised as KeyboardInterrupt. So does SIGTERM where Python raises the same for it. Outside the
    main thread, or under a handler of the caller's own, nothing changes.
    """
    interrupt = Interrupt()

    def remember(_number: int, _frame: FrameType | None) -> None:
        interrupt.pending = True

    mine = threading.current_thread() is threading.main_thread()
    kept = [each for each in _SIGNALS if mine and signal.getsignal(each) is signal.default_int_handler]
    for each in kept:
        signal.signal(each, remember)
    try:
        if cancel is None or not kept:
            yield interrupt
        else:
            with _cancelling(cancel, kept):
                yield interrupt
    finally:
        for each in kept:
            signal.signal(each, signal.default_int_handler)
        if interrupt.pending:
            raise KeyboardInterrupt from None


@contextmanager
def _cancelling(cancel: Callable[[], object], kept: Collection[int]) -> Iterator[None]:
    """Call ``cancel`` on a thread of its own when one of ``kept`` arrives: handlers wait until C code returns."""
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
            if any(each in numbers for each in kept):
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
