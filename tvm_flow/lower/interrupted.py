"""Ctrl-C while TVM compiles: it makes an error of its own of KeyboardInterrupt now and then, or loses it.

SIGTERM counts too where a process has asked Python to raise the same for it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Inside, whatever becomes of a Ctrl-C, it leaves as KeyboardInterrupt.

    Outside the main thread, or under a handler of the caller's own, nothing changes.
    """
    mine = threading.current_thread() is threading.main_thread()
    kept = [each for each in _SIGNALS if mine and signal.getsignal(each) is signal.default_int_handler]
    pressed: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    for each in kept:
        signal.signal(each, remember)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        for each in kept:
            signal.signal(each, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
