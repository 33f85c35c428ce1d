"""What is tried in a fork says what torch says, and leaves no process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from tvm_flow.model import unpickling
from tvm_flow.model.unpickling import why_not_unpickled


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def no_process_is_left() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return True


@pytest.mark.parametrize("mmap", [False, True])
def test_nothing_is_said_of_what_loads(saved: Path, mmap: bool) -> None:
    assert why_not_unpickled(saved, mmap) == ""
    assert no_process_is_left()


def test_of_what_does_not_load_torch_s_words_are_said(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:100])
    with pytest.raises(RuntimeError) as caught:
        torch.load(saved, weights_only=True)
    assert why_not_unpickled(saved, False) == str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    assert why_not_unpickled(tmp_path / "a.pth", False) == "no regular file"
    assert no_process_is_left()


def test_words_without_end_are_cut(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise ValueError("é" * 10_000)

    monkeypatch.setattr(torch, "load", refuses)
    assert 2000 < len(why_not_unpickled(saved, False).encode()) <= 4098


def test_a_process_that_ends_is_not_ours(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    assert "ends the process" in why_not_unpickled(saved, False)
    assert no_process_is_left()


def test_a_process_that_sleeps_is_ended(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: signal.pause())
    monkeypatch.setattr(unpickling, "SECONDS", 0.5)
    monkeypatch.setattr(unpickling, "IDLE", 1.0)
    assert "more than" in why_not_unpickled(saved, False)
    assert no_process_is_left()


def test_memory_is_bounded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: bytes(2 * unpickling.MEMORY))
    assert "more memory" in why_not_unpickled(saved, False)
