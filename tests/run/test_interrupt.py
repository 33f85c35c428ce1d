"""Ctrl-C: deferred while C code runs, raised once afterwards, left alone where it is not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from tvm_flow.run.interrupt import deferred_interrupt


def interrupt_self() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_nothing_happens_without_a_signal() -> None:
    with deferred_interrupt() as interrupt:
        assert not interrupt.pending
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_waits_until_the_end() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as interrupt:
        interrupt_self()
        assert interrupt.pending
        interrupt_self()
        reached = True
    assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_replaces_the_error_that_it_caused() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, deferred_interrupt():
        interrupt_self()
        raise RuntimeError("cancelled")
    assert raised.value.__suppress_context__


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="mine"), deferred_interrupt():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_callers_own_stays() -> None:
    seen: list[int] = []

    def own(number: int, _frame: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, own)
    try:
        with deferred_interrupt() as interrupt:
            interrupt_self()
            assert seen == [signal.SIGINT] and not interrupt.pending
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_do_not_touch_handlers() -> None:
    pending: list[bool] = []

    def run() -> None:
        with deferred_interrupt() as interrupt:
            pending.append(interrupt.pending)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert pending == [False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from tvm_flow.pack import Prompt
from tvm_flow.run import Bundle

with Bundle.open(Path(sys.argv[1]), threads=1) as bundle:
    prompt = Prompt(np.ones((3, 4), np.float32), np.zeros(3, np.float32))
    noise = np.ones((4, 2, 2, 2), np.float32)
    try:
        print("ready", flush=True)
        while True:
            bundle.generate(noise, prompt, prompt)
    except KeyboardInterrupt:
        bundle.verify()
        print("interrupted", flush=True)
"""


def test_a_real_ctrl_c(bundle_dir: Path) -> None:
    """Most of the time of this loop is C code; the signal must never be printed and lost."""
    command = [sys.executable, "-c", SCRIPT, str(bundle_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)
