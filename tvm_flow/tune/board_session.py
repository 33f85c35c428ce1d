"""A session with a board over TVM's own RPC tracker and server, with a deadline for everything that is asked.

TVM's client waits for ever: for a free board, for a server that hangs, for one that was switched off. So a session
lives in a process of its own, which is ended when its time is up, and every end has a name.

Nothing authenticates an RPC server: whoever reaches its port runs code on the board, and files that are uploaded under
another name than a plain one would leave its work folder. Trackers and servers belong on loopback, or behind
``ssh -N -L 9190:localhost:9190 HOST`` (and ``-R`` for the board); uploads here have plain names.
"""

from __future__ import annotations

import multiprocessing
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.tune.board_address import Board
from tvm_flow.tune.rounds import NoTimeError

TRACKER, ACQUIRE, TRANSFER = 5.0, 60.0, 60.0
"""Seconds for a tracker to take a connection, to get a free board, and for a library or an argument to get there."""
_LONGEST = 1 << 16


class BoardError(NoTimeError):
    """A board is lost, hangs, is never free, or is another one than it should be."""


class BoardSession:
    """A session with a board that is started at its first request, and anew after it was lost."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._child: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self.where = ""
        """The address under which the tracker knows the board that was got."""

    @property
    def patience(self) -> float:
        """Seconds to wait for a free board."""
        return ACQUIRE

    def remote(self) -> Remote:
        """What answers in the session's process."""
        raise NotImplementedError

    def begin(self) -> None:
        """The first requests, once a board is there."""

    @property
    def open(self) -> bool:
        """There is a board."""
        return self._child is not None

    def read(self, path: str) -> str:
        """A file of the board; "" when it cannot be read."""
        return str(self.ask("read", TRANSFER, path))

    def close(self) -> None:
        """Give the board back."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child = self._pipe = None

    def ask(self, what: str, timeout: float, *given: object) -> Any:
        """The answer of ``on_<what>``; raises BoardError, and gives the board back then."""
        if self._child is None:
            self._start()
        return self.answer(what, timeout, *given)

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(theirs, self._pipe, self.remote()), daemon=True)
        child.start()
        theirs.close()
        self._child = child
        self.where = str(self.answer("acquire", self.patience))
        self.begin()

    def answer(self, what: str, timeout: float, *given: object) -> Any:
        """As `ask`, of a session that has begun."""
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
        except KeyboardInterrupt:
            self.close()  # what it still answers nobody would expect
            raise
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


def _serve(pipe: Connection, other: Connection, session: Remote) -> None:
    """The process of a session: answers requests until the pipe ends, whose ``other`` end it had from its parent."""
    other.close()
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):  # reset: it ended before it had read an answer
        while True:
            what, given = pipe.recv()
            act: Callable[..., Any] = getattr(session, f"on_{what}")
            try:
                pipe.send((True, act(*given)))
            except Exception as error:
                pipe.send((False, str(error)))


class Remote:
    """TVM's client, in the session's process; ``file`` is board_read of a library that it has loaded."""

    file: Callable[..., int]

    def __init__(self, board: Board) -> None:
        self.board = board

    def on_acquire(self) -> str:
        """Get a free board; returns its address, which TVM's own request keeps to itself."""
        from tvm import rpc
        from tvm.rpc import base

        with socket.create_connection((self.board.host, self.board.port), TRACKER) as tracker:
            tracker.settimeout(None)
            tracker.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            if base.recvall(tracker, 4) != struct.pack("<i", base.RPC_TRACKER_MAGIC):
                raise OSError("cannot connect: what listens there is no tracker")
            base.sendjson(tracker, [base.TrackerCode.REQUEST, self.board.key, "", 1])
            code, (host, port, match) = base.recvjson(tracker)
        if code != base.TrackerCode.SUCCESS:
            raise OSError(f"the tracker answers {code}")
        self.rpc = rpc.connect(host, port, match, session_timeout=0)
        return f"{host}:{port}"

    def load(self, library: Path, name: str = "") -> Any:
        """The module of ``library``, uploaded under its own name or ``name``."""
        name = name or library.name
        self.rpc.upload(str(library), target=name)
        module = self.rpc.load_module(name)
        self.file = module["board_read"]
        return module

    def tensor(self, array: np.ndarray[Any, Any]) -> Any:
        """``array``, on the board."""
        import tvm

        return tvm.runtime.tensor(array, self.rpc.cpu(0))

    def text(self, text: str) -> Any:
        """UTF-8 on the board."""
        return self.tensor(np.frombuffer(text.encode(), np.uint8))

    def on_read(self, path: str) -> str:
        """See `BoardSession.read`."""
        tensor = self.tensor(np.zeros(_LONGEST, np.uint8))
        size = int(self.file(self.text(path), tensor))
        return bytes(tensor.numpy()[: max(size, 0)]).decode(errors="replace")
