"""Candidates on a board: a library of kernels that its RPC server loads (runtime/emulate/board.c), and a session."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.graph.constants import Array
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE
from tvm_flow.toolchain.runtime_library import build_static_runtime
from tvm_flow.toolchain.zig import PAGES, zig_cc
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_session import TRANSFER, BoardError, BoardSession, Remote
from tvm_flow.tune.entries import Json
from tvm_flow.tune.machine_state import board_state
from tvm_flow.tune.race_program import race_table
from tvm_flow.tune.rounds import NoTimeError

LIBRARY = "candidates.so"
RETURN = 15.0
"""Seconds for a board whose session a kernel has ended to be free again: its server registers within five."""
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-s")


def link_board(names: Sequence[str], target: TargetSpec, folder: Path, objects: Sequence[str] | None = None) -> Path:
    """A library for a board's RPC server of the kernels ``names``, each in an object of its name in ``folder``, or
    all in ``objects``; raises BuildError.
    """
    (folder / "race_table.c").write_text(race_table(names))
    triple, output = f"{target.architecture}-linux-gnu.2.34", folder / LIBRARY
    sources = [
        EMULATE / "board.c",
        EMULATE / "board_file.c",
        folder / "race_table.c",
        *(folder / f"{name}.o" for name in objects or names),
    ]
    arguments = (*FLAGS, PAGES, f"-I{EMULATE}", "-o", str(output), *map(str, sources))
    zig_cc((*arguments, str(build_static_runtime(triple)), "-lm", "-lpthread"), LIBRARY, triple)
    return output


class BoardProcess(BoardSession):
    """A session with a board that has loaded ``library``.

    It answers as `tvm_flow.tune.race_program.RaceProcess` does.
    """

    def __init__(self, board: Board, library: Path, threads: int, args: Sequence[Array] = ()) -> None:
        super().__init__(board)
        self.library, self.threads, self.args = library, threads, args

    def remote(self) -> Remote:
        """See `BoardSession.remote`."""
        return _Kernels(self.board)

    def begin(self) -> None:
        """See `BoardSession.begin`."""
        self.answer("load", TRANSFER, self.library)
        self.answer("arguments", TRANSFER, self.args)

    def seconds(self, kernel: int, calls: int, timeout: float) -> float:
        """Of one call, measured over ``calls``; raises NoTimeError, `BoardError` when it is the board's fault."""
        took = int(self.ask("time", timeout, kernel, calls, self.threads))
        if took < 0:
            raise NoTimeError("it failed on the board")
        return took / 1e9 / calls

    def output(self, kernel: int, timeout: float) -> bytes:
        """The output's elements after one call; raises NoTimeError."""
        data = self.ask("output", timeout, kernel, self.threads)
        if data is None:
            raise NoTimeError("it failed on the board")
        return bytes(data)

    def state(self) -> dict[str, Json]:
        """Which board, and as much as `tvm_flow.tune.machine_state` says of this machine; costs some transfers."""
        return {"board": self.where, **board_state(self.read)}


class HeldBoard(BoardProcess):
    """One board that is kept while one library after another runs on it, until `close`.

    A session that a kernel ended is begun anew on the same board. Where that is not back in `RETURN` seconds, or the
    tracker gives another, the board is lost for good: two boards' times never meet in one ratio.
    """

    def __init__(self, board: Board, empty: Path, seconds: float = math.inf) -> None:
        """``seconds`` to wait for it at most."""
        super().__init__(board, empty, 1)
        self.most = seconds
        self.cause = ""
        """Of its last loss."""
        self.lost = False

    @property
    def patience(self) -> float:
        """See `BoardSession.patience`."""
        return RETURN if self.where else min(super().patience, self.most)

    def turn(self, library: Path, threads: int, args: Sequence[Array]) -> Turn:
        """What runs kernels of ``library`` there, until the next turn."""
        self.library, self.threads, self.args = library, threads, args
        if self.open:  # it has loaded one like this: an error now is no fault of the library
            self.answer("exchange", TRANSFER, library)
            self.answer("arguments", TRANSFER, args)
        return Turn(self)

    def answer(self, what: str, timeout: float, *given: object) -> Any:
        """See `BoardSession.answer`."""
        try:
            return super().answer(what, timeout, *given)
        except BoardError as error:
            self.cause = self.cause or str(error)
            raise

    def _start(self) -> None:
        if self.lost:
            raise BoardError(self.cause)
        before = self.where
        try:
            super()._start()
        except BoardError:
            self.lost = True
            raise BoardError(self.cause) from None
        if before not in ("", self.where):
            self.close()
            self.lost = True
            raise BoardError(self.cause)
        self.cause = ""


@dataclass(frozen=True)
class Turn:
    """A program on a board that outlives it; it answers as `BoardProcess` does."""

    held: HeldBoard

    def seconds(self, kernel: int, calls: int, timeout: float) -> float:
        """See `BoardProcess.seconds`."""
        return self.held.seconds(kernel, calls, timeout)

    def output(self, kernel: int, timeout: float) -> bytes:
        """See `BoardProcess.output`."""
        return self.held.output(kernel, timeout)

    def state(self) -> dict[str, Json]:
        """See `BoardProcess.state`."""
        return self.held.state()

    def close(self) -> None:
        """Nothing: the board is kept."""


class _Kernels(Remote):
    loads = 0

    def on_load(self, library: Path) -> None:
        self.loads += 1
        name = f"{self.loads}-{library.name}"  # a loader gives what it has of that name
        self.time = self.load(library, name)["board_time"]
        self.rpc.remove(name)  # loaded, it needs no file; a session may load hundreds

    def on_exchange(self, library: Path) -> None:
        self.on_load(library)

    def on_arguments(self, args: Sequence[Array]) -> None:
        self.args = args
        self.tensors = [self.tensor(array) for array in args]

    def on_time(self, kernel: int, calls: int, threads: int) -> int:
        return int(self.time(kernel, calls, threads, *self.tensors))

    def on_output(self, kernel: int, threads: int) -> bytes | None:
        output = self.tensors[-1]
        shape, kind = self.args[-1].shape, self.args[-1].dtype
        output.copyfrom(np.frombuffer(b"\xa5" * self.args[-1].nbytes, kind).reshape(shape))
        if int(self.time(kernel, 1, threads, *self.tensors)) < 0:
            return None
        return bytes(output.numpy().tobytes())
