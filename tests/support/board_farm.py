"""A tracker and a server of TVM's own on loopback: this machine as a board."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tvm_flow.errors import BuildError
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_check import list_boards

KEY = "bench-of-tests"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ports(port: int) -> tuple[str, ...]:
    """The options of TVM's programs for that one and no other."""
    return "--port", f"{port}", "--port-end", f"{port + 1}"


@dataclass
class Farm:
    """A tracker and one server."""

    port: int
    tracker: subprocess.Popen[bytes]
    python: str
    """That runs the server."""
    server: subprocess.Popen[bytes] | None = None

    @property
    def board(self) -> Board:
        return Board("127.0.0.1", self.port, KEY)

    def start_server(self, key: str = KEY, free: int = 1) -> None:
        """Register it under ``key``, where it then is one of ``free``."""
        tracker = ("--tracker", f"127.0.0.1:{self.port}", "--key", key)
        self.server = run_tvm(self.python, "rpc_server", *tracker, *ports(free_port()))
        wait_for(lambda: any(each.startswith(f"{key}: {free} free") for each in list_boards("127.0.0.1", self.port)))

    def stop_server(self) -> None:
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
            self.server = None


def run_tvm(python: str, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [python, "-m", f"tvm.exec.{name}", "--host", "127.0.0.1", *arguments]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=null, stderr=null, start_new_session=True)


def wait_for(holds: object, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if callable(holds) and holds():
                return
        except BuildError:
            pass
        time.sleep(0.5)
    pytest.fail(f"not so after {seconds} s")


@contextmanager
def running_farm(python: str = sys.executable) -> Iterator[Farm]:
    """Both, until the end of the block; the server is run by ``python``."""
    port = free_port()
    tracker = run_tvm(sys.executable, "rpc_tracker", *ports(port))
    made = Farm(port, tracker, python)
    try:
        made.start_server()
        yield made
    finally:
        made.stop_server()
        os.killpg(made.tracker.pid, signal.SIGKILL)
        made.tracker.wait()
