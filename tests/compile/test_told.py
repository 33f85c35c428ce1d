"""A part that lasts is seen to last, and by its stage."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from tvm_flow.compile import told as told_module
from tvm_flow.compile.told import stage_of, told


class Screen(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal, self.drawn = terminal, threading.Semaphore(0)

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.drawn.release()
        return super().write(text)


def drawn(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> Screen:
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(told_module, "SECONDS", 0.01)
    return screen


def test_a_terminal_sees_the_clock_while_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = drawn(monkeypatch, terminal=True)
    with told("compile steps", unit="group") as bar:
        stage_of(bar)("machine code of 41 kernels")
        before = screen.getvalue().count("machine code of 41 kernels")
        while screen.getvalue().count("machine code of 41 kernels") < before + 3:
            assert screen.drawn.acquire(timeout=60), "nothing was drawn"
        bar.update()
    assert "compile steps: 100%" in screen.getvalue()
    assert "tvm-flow-clock" not in {thread.name for thread in threading.enumerate()}


def test_a_log_gets_each_stage_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = drawn(monkeypatch, terminal=False)
    with told("compile steps", unit="group") as bar:
        stage_of(bar)("link")
        assert "tvm-flow-clock" not in {thread.name for thread in threading.enumerate()}
        time.sleep(0.05)
    assert screen.getvalue().count("link") == 2, "when it begins, and as the last line"


def test_nothing_is_shown_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = drawn(monkeypatch, terminal=True)
    with told("compile steps", shown=False) as bar:
        stage_of(bar)("link")
        bar.update()
    assert screen.getvalue() == ""
