"""Ctrl-C while TVM compiles is an interruption, whatever TVM makes of it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tvm_flow.errors import BuildError
from tvm_flow.lower.interrupted import interrupts_kept


def press_and_convert(number: int = signal.SIGINT) -> None:
    try:
        os.kill(os.getpid(), number)
        signal.pause()
    except KeyboardInterrupt:
        raise BuildError("kernel k: TVM could not lower it: KeyboardInterrupt; report this graph") from None


def press_and_lose() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        return


@pytest.mark.parametrize("work", [press_and_convert, press_and_lose])
def test_it_leaves_as_an_interrupt(work: object) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        work()  # type: ignore[operator]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_raises_the_same_when_it_is_ended_is_interrupted_too() -> None:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_kept():
            press_and_convert(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_without_one_stays_what_it_is() -> None:
    with pytest.raises(BuildError, match="no"), interrupts_kept():
        raise BuildError("no")


def test_under_a_handler_of_the_callers_own_or_in_another_thread_nothing_changes() -> None:
    seen: list[object] = []

    def elsewhere() -> None:
        with interrupts_kept():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_kept():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
