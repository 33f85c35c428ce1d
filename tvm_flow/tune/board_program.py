"""Candidates on a board: a library of kernels that its RPC server loads (runtime/emulate/board.c), and a session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_flow.graph.constants import Array
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE
from tvm_flow.toolchain.runtime_library import build_static_runtime
from tvm_flow.toolchain.zig import PAGES, zig_cc
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_session import TRANSFER, BoardSession, Remote
from tvm_flow.tune.entries import Json
from tvm_flow.tune.machine_state import board_state
from tvm_flow.tune.race_program import race_table
from tvm_flow.tune.rounds import NoTimeError

LIBRARY = "candidates.so"
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
        return _Kernels(self.board, self.library, self.args)

    def begin(self) -> None:
        """See `BoardSession.begin`."""
        self.answer("load", TRANSFER)
        self.answer("arguments", TRANSFER)

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
        """As much as `tvm_flow.tune.machine_state` says of this machine; costs some transfers."""
        return board_state(self.read)


class _Kernels(Remote):
    def __init__(self, board: Board, library: Path, args: Sequence[Array]) -> None:
        super().__init__(board)
        self.library, self.args = library, args

    def on_load(self) -> None:
        self.time = self.load(self.library)["board_time"]

    def on_arguments(self) -> None:
        self.tensors = [self.tensor(array) for array in self.args]

    def on_time(self, kernel: int, calls: int, threads: int) -> int:
        return int(self.time(kernel, calls, threads, *self.tensors))

    def on_output(self, kernel: int, threads: int) -> bytes | None:
        output = self.tensors[-1]
        shape, kind = self.args[-1].shape, self.args[-1].dtype
        output.copyfrom(np.frombuffer(b"\xa5" * self.args[-1].nbytes, kind).reshape(shape))
        if int(self.time(kernel, 1, threads, *self.tensors)) < 0:
            return None
        return bytes(output.numpy().tobytes())
