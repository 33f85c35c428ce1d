"""Which board answers: its CPU, features, cores, governor and heat, held against the target that is compiled for."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.features import reported
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_program import BoardProcess, HeldBoard, link_board
from tvm_flow.tune.board_session import BoardError
from tvm_flow.tune.entries import Json
from tvm_flow.tune.machine_state import board_state
from tvm_flow.tune.race_program import compile_candidates
from tvm_flow.tune.rounds import NoTimeError
from tvm_flow.tune.statistics import median, spread

ANSWER = 5.0
"""Seconds for a tracker to say what it has."""
SAMPLES, SIZE = 15, 256
"""Of `bench`, and of each side of its product."""


@dataclass(frozen=True)
class Fingerprint:
    """What a board says of itself."""

    features: frozenset[str]
    cores: int
    state: dict[str, Json]

    def lines(self) -> list[str]:
        """For a person."""
        said = ", ".join(f"{name} {value}" for name, value in self.state.items()) or "nothing about clocks and heat"
        return [f"{self.cores} cores, features: {' '.join(sorted(self.features))}", f"state: {said}"]


def list_boards(host: str, port: int) -> list[str]:
    """A line for every key of a tracker; raises BuildError when it does not answer."""
    return [f"{key}: {free} free, {waiting} waiting" for key, (free, waiting) in sorted(_queues(host, port).items())]


def free_boards(board: Board) -> int:
    """How many of its key nobody has; raises BuildError when its tracker does not answer."""
    return _queues(board.host, board.port).get(board.key, (0, 0))[0]


def _queues(host: str, port: int) -> dict[str, tuple[int, int]]:
    """Key -> (boards that are free, requests that wait)."""
    from tvm import rpc

    try:
        socket.create_connection((host, port), ANSWER).close()
        summary = rpc.connect_tracker(host, port).summary()
    except (OSError, RuntimeError, ValueError) as error:
        raise BuildError(
            f"tracker {host}:{port}: expected it to answer, got: {error}; start it, check the port"
        ) from error
    return {key: (queue["free"], queue["pending"]) for key, queue in summary["queue_info"].items()}


def check_board(board: Board, target: TargetSpec, folder: Path) -> Fingerprint:
    """The fingerprint of ``board``; raises BuildError when it is not ``target``'s, or does not answer."""
    held, found = hold_board(board, target, folder)
    held.close()
    return found


def hold_board(
    board: Board, target: TargetSpec, folder: Path, seconds: float = math.inf
) -> tuple[HeldBoard, Fingerprint]:
    """The same, and the board, which is kept until it is closed; it is waited for ``seconds`` at most."""
    held = HeldBoard(board, link_board([], target, folder), seconds)
    try:
        found = fingerprint(held.read, target)
        require_target(str(board), found, target)
    except BaseException as error:
        held.close()
        if isinstance(error, BoardError):
            raise BuildError(f"{error}; check the tracker, the server and the key") from error
        raise
    return held, found


def require_target(where: str, found: Fingerprint, target: TargetSpec) -> None:
    """Raise BuildError naming features of ``target`` that the board lacks."""
    missing = target.features - found.features
    if missing:
        raise BuildError(
            f"board {where}: expected the features of target {target.name}, got none of {', '.join(sorted(missing))}; "
            "it is another board than its key says: correct the key or the target"
        )


def fingerprint(read: Callable[[str], str], target: TargetSpec) -> Fingerprint:
    """By files that ``read`` gives; features are those that the runtime's own check would find."""
    text = read("/proc/cpuinfo")
    try:
        features = reported(target.triple, text)
    except ConfigError:
        features = frozenset()
    return Fingerprint(features, len(re.findall(r"(?m)^processor\s*:", text)), board_state(read))


def bench_board(board: Board, target: TargetSpec, threads: int) -> list[str]:
    """How fast and how steady a product is there; raises BuildError."""
    isa = choose_isa(target.features)
    rng = np.random.default_rng(1)
    x, w = (rng.integers(-128, 128, (SIZE, SIZE)).astype(np.int8) for _ in range(2))
    args = [x, isa.layout.pack(w), np.empty((SIZE, SIZE), np.int32)]
    with temporary_folder("board") as folder:
        failed = compile_candidates({"c0": lambda: gemm("c0", SIZE, SIZE, SIZE, isa)}, target, folder, 1)
        if failed:
            raise BuildError(f"target {target.name}: {failed['c0']}; report this target")
        process = BoardProcess(board, link_board(["c0"], target, folder), threads, args)
        try:
            right = np.frombuffer(process.output(0, 60.0), np.int32).reshape(SIZE, SIZE)
            samples = [process.seconds(0, 10, 60.0) for _ in range(SAMPLES + 1)][1:]
        except NoTimeError as error:
            raise BuildError(f"{error}; check the board") from error
        finally:
            process.close()
    if not np.array_equal(right, x.astype(np.int32) @ w.astype(np.int32)):
        raise BuildError(
            f"board {board}: expected an exact product, got another; it does not suit target {target.name}"
        )
    speed = SIZE**3 / median(samples) / 1e9
    return [f"product {SIZE}x{SIZE}x{SIZE}, {isa.name}: {speed:.1f} GMAC/s, spread {spread(samples):.1%}, exact"]
