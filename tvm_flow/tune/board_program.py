"""Candidates on a board, over TVM's own RPC tracker and server, with a deadline for everything that is asked.

TVM's client waits for ever: for a free board, for a server that hangs, for one that was switched off. So a session
lives in a process of its own, which is ended when its time is up, and every end has a name.

Nothing authenticates an RPC server: whoever reaches its port runs code on the board, and files that are uploaded under
another name than a plain one would leave its work folder. Trackers and servers belong on loopback, or behind
``ssh -N -L 9190:localhost:9190 HOST`` (and ``-R`` for the board); uploads here have plain names.
"""

from __future__ import annotations

import multiprocessing
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.errors import ConfigError
from tvm_flow.graph.constants import Array
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE
from tvm_flow.toolchain.runtime_library import build_static_runtime
from tvm_flow.toolchain.zig import PAGES, zig_cc
from tvm_flow.tune.entries import Json
from tvm_flow.tune.machine_state import board_state
from tvm_flow.tune.race_program import race_table
from tvm_flow.tune.rounds import NoTimeError

TRACKER, ACQUIRE, TRANSFER = 5.0, 60.0, 60.0
"""Seconds for a tracker to take a connection, to get a free board, and for a library or an argument to get there."""
LIBRARY = "candidates.so"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-s")
_LONGEST = 1 << 16


class BoardError(NoTimeError):
    """A board is lost, hangs, is never free, or is another one than it should be."""


@dataclass(frozen=True)
class Board:
    """A key of a tracker: any board that registers under it."""

    host: str
    port: int
    key: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.key}"

    @property
    def risk(self) -> str:
        """What a person should know of this address; "" on loopback."""
        if self.host in _LOOPBACK:
            return ""
        return (
            f"{self.host}:{self.port} is not loopback: TVM's RPC has no authentication and no encryption, and whoever "
            f"reaches it runs code on the board; use ssh -N -L {self.port}:localhost:{self.port} {self.host}"
        )


def parse_board(text: str) -> Board:
    """Of HOST:PORT/KEY; raises ConfigError."""
    found = re.fullmatch(r"(\[?[\w.:-]+\]?):(\d{1,5})/([\w.-]+)", text)
    if found is None or not 0 < int(found[2]) < 2**16:
        raise ConfigError(f"board {text!r}: expected HOST:PORT/KEY like localhost:9190/rpi5, a tracker and a key of it")
    return Board(found[1].strip("[]"), int(found[2]), found[3])


def link_board(names: Sequence[str], target: TargetSpec, folder: Path) -> Path:
    """A library of the objects ``names`` in ``folder`` for a board's RPC server; raises BuildError."""
    (folder / "race_table.c").write_text(race_table(names))
    triple, output = f"{target.architecture}-linux-gnu.2.34", folder / LIBRARY
    sources = [EMULATE / "board.c", folder / "race_table.c", *(folder / f"{name}.o" for name in names)]
    arguments = (*_FLAGS, PAGES, f"-I{EMULATE}", "-o", str(output), *map(str, sources))
    zig_cc((*arguments, str(build_static_runtime(triple)), "-lm", "-lpthread"), LIBRARY, triple)
    return output


@dataclass
class BoardProcess:
    """A session with a board that has loaded ``library``; started at its first request, and anew after it was lost.

    It answers as `tvm_flow.tune.race_program.RaceProcess` does.
    """

    board: Board
    library: Path
    threads: int
    args: Sequence[Array] = ()

    def __post_init__(self) -> None:
        self._child: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def seconds(self, kernel: int, calls: int, timeout: float) -> float:
        """Of one call, measured over ``calls``; raises NoTimeError, `BoardError` when it is the board's fault."""
        took = int(self._ask("time", timeout, kernel, calls, self.threads))
        if took < 0:
            raise NoTimeError("it failed on the board")
        return took / 1e9 / calls

    def output(self, kernel: int, timeout: float) -> bytes:
        """The output's elements after one call; raises NoTimeError."""
        data = self._ask("output", timeout, kernel, self.threads)
        if data is None:
            raise NoTimeError("it failed on the board")
        return bytes(data)

    def read(self, path: str) -> str:
        """A file of the board; "" when it cannot be read."""
        return str(self._ask("read", TRANSFER, path))

    def state(self) -> dict[str, Json]:
        """As much as `tvm_flow.tune.machine_state` says of this machine; costs some transfers."""
        return board_state(self.read)

    def close(self) -> None:
        """Give the board back."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child = self._pipe = None

    def _ask(self, what: str, timeout: float, *given: object) -> Any:
        if self._child is None:
            self._start()
        assert self._pipe is not None
        return self._answer(what, timeout, *given)

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(theirs, self.board, self.library, self.args), daemon=True)
        child.start()
        theirs.close()
        self._child = child
        self._answer("acquire", ACQUIRE)
        self._answer("load", TRANSFER)
        self._answer("arguments", TRANSFER)

    def _answer(self, what: str, timeout: float, *given: object) -> Any:
        assert self._pipe is not None
        try:
            self._pipe.send((what, given))
            if not self._pipe.poll(timeout):
                self.close()
                raise BoardError(
                    f"board {self.board}: {_SILENT.get(what, 'hung')}: no answer to {what} in {timeout:g} s"
                )
            good, value = self._pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise BoardError(f"board {self.board}: lost: its session ended at {what}") from None
        if good:
            return value
        self.close()
        raise BoardError(f"board {self.board}: {_cause(what, str(value))}")


_SILENT = {"acquire": "never free, or its server does not answer", "load": "hung while a library was sent"}


def _cause(what: str, words: str) -> str:
    """What an error of TVM's client says, in a line."""
    lowered = words.lower()
    said = " ".join(words.split())[-300:]
    if what == "load":
        return f"its server cannot load a library for this target: {said}"
    if what == "acquire" and ("refused" in lowered or "connect" in lowered):
        return f"no tracker answers there: {said}"
    return f"lost at {what}: {said}"  # a kernel that fails is no error of the session


def _serve(pipe: Connection, board: Board, library: Path, args: Sequence[Array]) -> None:
    """The process of a session: answers requests until the pipe ends."""
    session = _Session(board, library, args)
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            what, given = pipe.recv()
            act: Callable[..., Any] = getattr(session, f"on_{what}")
            try:
                pipe.send((True, act(*given)))
            except Exception as error:
                pipe.send((False, str(error)))


class _Session:
    def __init__(self, board: Board, library: Path, args: Sequence[Array]) -> None:
        self.board, self.library, self.args = board, library, args

    def on_acquire(self) -> None:
        from tvm import rpc

        socket.create_connection((self.board.host, self.board.port), TRACKER).close()  # TVM would try for long
        tracker = rpc.connect_tracker(self.board.host, self.board.port)
        self.remote = tracker.request(self.board.key, session_timeout=0, max_retry=1)

    def on_load(self) -> None:
        self.remote.upload(str(self.library), target=LIBRARY)
        module = self.remote.load_module(LIBRARY)
        self.time, self.file = module["board_time"], module["board_read"]

    def on_arguments(self) -> None:
        import tvm

        self.tensors = [tvm.runtime.tensor(array, self.remote.cpu(0)) for array in self.args]

    def on_time(self, kernel: int, calls: int, threads: int) -> int:
        return int(self.time(kernel, calls, threads, *self.tensors))

    def on_output(self, kernel: int, threads: int) -> bytes | None:
        output = self.tensors[-1]
        shape, kind = self.args[-1].shape, self.args[-1].dtype
        output.copyfrom(np.frombuffer(b"\xa5" * self.args[-1].nbytes, kind).reshape(shape))
        if int(self.time(kernel, 1, threads, *self.tensors)) < 0:
            return None
        return bytes(output.numpy().tobytes())

    def on_read(self, path: str) -> str:
        import tvm

        device, text = self.remote.cpu(0), np.zeros(_LONGEST, np.uint8)
        name = tvm.runtime.tensor(np.frombuffer(path.encode(), np.uint8), device)
        tensor = tvm.runtime.tensor(text, device)
        size = int(self.file(name, tensor))
        return bytes(tensor.numpy()[: max(size, 0)]).decode(errors="replace")
