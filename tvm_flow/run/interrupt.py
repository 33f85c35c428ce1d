"""Ctrl-C while C code runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Set once SIGINT has arrived."""

    def __init__(self) -> None:
        self.pending = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Keep KeyboardInterrupt out of ctypes callbacks, where it would be printed and lost.

    Inside, SIGINT only sets ``pending``; on leaving, a pending interrupt is raised as KeyboardInterrupt.
    Outside the main thread, or under a handler of the caller's own, nothing changes.
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
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupt.pending:
            raise KeyboardInterrupt from None
