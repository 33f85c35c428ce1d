"""A bundle compared, verified and profiled on a board: a real tracker and server on loopback, with this machine."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.board_farm import Farm

from tvm_flow.check.parts import Part
from tvm_flow.check.sampling import Unchecked
from tvm_flow.cli import main
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.pack import read_golden
from tvm_flow.run import TracedCall
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune import board_bundle
from tvm_flow.tune.board_machine import BoardMachine

pytestmark = pytest.mark.usefixtures("kernels_once")


@pytest.fixture(scope="module")
def made(farm: Farm, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardMachine]:
    machine = BoardMachine(farm.board, replace(host, name="toy"), progress=False)
    machine.connect(tmp_path_factory.mktemp("checker"))
    yield machine
    machine.close()


@pytest.fixture
def machine(made: BoardMachine) -> Iterator[BoardMachine]:
    """Given back after each test, for there is one board."""
    yield made
    made.session.close()


def nothing() -> None:
    """After a step."""


def test_a_board_repeats_a_bundle_call_by_call(machine: BoardMachine, bundle_dir: Path) -> None:
    calls: list[TracedCall] = []
    latents = machine.trace(bundle_dir, Part.GENERATE, 2, calls.append, nothing)
    assert latents.tobytes() == read_golden(bundle_dir).latents.tobytes()
    assert {(call.step, call.branch) for call in calls} == {(step, branch) for step in range(4) for branch in range(2)}
    machine.verify(bundle_dir, 1)


def test_what_a_callback_raises_ends_the_run_and_the_board_serves_on(machine: BoardMachine, bundle_dir: Path) -> None:
    def refuse(_call: TracedCall) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        machine.trace(bundle_dir, Part.GENERATE, 1, refuse, nothing)
    assert machine.session.open
    machine.verify(bundle_dir, 1)


def test_files_that_are_there_are_not_sent_again(
    machine: BoardMachine, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.verify(bundle_dir, 1)
    monkeypatch.setattr(board_bundle, "_chunks", lambda path: pytest.fail(f"{path} was sent"))
    machine.verify(bundle_dir, 1)


def test_a_board_says_what_is_wrong_with_a_bundle(machine: BoardMachine, bundle_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_dir, tmp_path / "b")
    golden = bytearray((tmp_path / "b" / "golden.bin").read_bytes())
    golden[-1] ^= 1
    (tmp_path / "b" / "golden.bin").write_bytes(golden)
    with pytest.raises(BuildError, match=r"board .*: expected the bundle to run to its end, .*: golden\.bin: "):
        machine.verify(tmp_path / "b", 1)


def test_a_board_without_room_is_told_apart(
    machine: BoardMachine, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_bundle._Bundles, "on_put", lambda *_: -28)  # in the process that is forked from here
    with pytest.raises(BuildError, match=r"expected room for .*No space left on device; start the server with TMPDIR"):
        machine.verify(bundle_dir, 1)


def test_a_session_that_is_lost_ends_a_check_with_that_cause(machine: BoardMachine, bundle_dir: Path) -> None:
    def lose(_call: TracedCall) -> None:
        child = machine.session._child
        assert child is not None
        child.kill()

    with pytest.raises(BuildError, match=r"lost.*check the board, its server and its tracker"):
        machine.trace(bundle_dir, Part.GENERATE, 1, lose, nothing)
    machine.verify(bundle_dir, 1)


def test_a_kernel_that_hangs_is_given_up(
    machine: BoardMachine, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_bundle, "SILENCE", 0.5)
    monkeypatch.setattr(board_bundle._Bundles, "on_take", lambda *_: b"")
    start = time.monotonic()
    with pytest.raises(BuildError, match=r"nothing for 0\.5 s: it hangs in a kernel, or is too slow"):
        machine.verify(bundle_dir, 1)
    assert time.monotonic() - start < 60 and not machine.session.open


@pytest.fixture(scope="module")
def checked(farm: Farm, exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    options = CompileOptions(threads=1, progress=False, check_on=farm.board)
    return compile_bundle(exported, host, tmp_path_factory.mktemp("checked") / "bundle", options)


def test_a_bundle_that_was_checked_on_a_board_is_the_one_that_is_made_here(checked: Compiled, compiler: Any) -> None:
    here = compiler("w8a8", "host")
    assert checked.checked_on.startswith("board 127.0.0.1:")
    assert checked.exactness == here.exactness
    for path in ("steps.bin", "weights.bin", "golden.bin"):
        assert (checked.bundle / path).read_bytes() == (here.bundle / path).read_bytes()


def test_a_profile_comes_from_the_boards_clock(
    farm: Farm, checked: Compiled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(checked.bundle), "--board", str(farm.board), "--threads", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["threads"] == 1
    assert all(row["total_ns"] > 0 and row["bound"] is None for row in report["rows"])
    assert "integer product" in {row["kind"] for row in report["rows"]}


def test_a_board_that_lacks_a_feature_of_the_target_checks_nothing(
    farm: Farm, exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = frozenset(sorted(host.features)[1:])
    monkeypatch.setattr("tvm_flow.tune.board_check.reported", lambda *_: fewer)
    options = CompileOptions(threads=1, progress=False, check_on=farm.board)
    machine = BoardMachine(farm.board, host, progress=False)
    with pytest.raises(BuildError, match="it is another board than its key says"):
        machine.connect(tmp_path)
    machine.close()
    with pytest.raises(ConfigError, match="expected calls to compare on board"):
        compile_bundle(exported, host, tmp_path / "bundle", replace(options, check=Unchecked()))
