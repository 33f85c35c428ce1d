"""A target's machine is found in one table, and says what it needs."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from tvm_flow.check import machines
from tvm_flow.check.emulator import TRACE_PROGRAM, Emulator
from tvm_flow.check.machines import Emulated, ThisProcess, machine_of
from tvm_flow.check.parts import Part
from tvm_flow.errors import BuildError
from tvm_flow.target.spec import TargetSpec

ARM = TargetSpec("a72", "aarch64-linux-gnu", "cortex-a72", frozenset({"neon"}))


def test_this_machines_own_architecture_runs_in_this_process(host: TargetSpec) -> None:
    assert machine_of(host) == ThisProcess()
    assert ThisProcess().command == () and ThisProcess().describe() == "this machine"


def test_nothing_is_linked_for_this_process(tmp_path: Path) -> None:
    def link(*_: Path) -> None:
        raise AssertionError("linked")

    assert ThisProcess().prepared(tmp_path, link) == ThisProcess()


@pytest.mark.skipif(platform.machine() == "aarch64", reason="its own architecture")
@pytest.mark.skipif(not shutil.which("qemu-aarch64-static"), reason="no qemu-aarch64: apt-get install qemu-user-static")
def test_aarch64_is_emulated() -> None:
    machine = machine_of(ARM)
    assert isinstance(machine, Emulated) and machine.describe().endswith("-cpu cortex-a72")
    assert machine.command == machine.emulator.command


def test_an_emulated_bundle_is_a_program(tmp_path: Path) -> None:
    made: list[tuple[Path, Path]] = []
    machine = Emulated(Emulator(Path("qemu"), "max"))
    with pytest.raises(BuildError, match="call prepared first"):
        machine.trace(tmp_path, Part.GENERATE, 1, id, lambda: None)
    prepared = machine.prepared(tmp_path, lambda main, output: made.append((main, output)))
    assert made == [(TRACE_PROGRAM, tmp_path / "trace")]
    assert prepared == Emulated(machine.emulator, tmp_path / "trace")


def test_a_further_machine_is_one_more_row(monkeypatch: pytest.MonkeyPatch) -> None:
    board = TargetSpec("board", "riscv64-linux-gnu", "generic-rv64", frozenset())
    with pytest.raises(BuildError, match=r"target board: .*got riscv64-linux-gnu; no bundle is written unchecked"):
        machine_of(board)
    over_rpc = ThisProcess()
    rows = (*machines.MACHINES, lambda target: over_rpc if target.name == "board" else None)
    monkeypatch.setattr(machines, "MACHINES", rows)
    assert machine_of(board) is over_rpc
