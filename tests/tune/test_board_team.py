"""Two boards of one key, on a real tracker, share the kernels of a tuning; one of them may be lost."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.board_farm import Farm, wait_for

from tvm_flow.cli import main
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune import board_program, board_session, board_team, tune_export, workloads
from tvm_flow.tune.board_address import Board
from tvm_flow.tune.board_check import free_boards
from tvm_flow.tune.board_team import Done, Job, Member, Message, Team, hire
from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.ledger import read_ledger
from tvm_flow.tune.local_bench import BoardBench
from tvm_flow.tune.rounds import NoTimeError
from tvm_flow.tune.search import Task
from tvm_flow.tune.shared_run import SharedRun
from tvm_flow.tune.tune_export import TuneOptions, tune

KEY = "two-boards"


@pytest.fixture(scope="module")
def pair(farm: Farm) -> Iterator[tuple[Board, Farm, Farm]]:
    """Two servers on the tracker of ``farm``."""
    one, other = replace(farm, server=None), replace(farm, server=None)
    try:
        one.start_server(KEY)
        other.start_server(KEY, free=2)
        yield Board("127.0.0.1", farm.port, KEY), one, other
    finally:
        one.stop_server()
        other.stop_server()


@pytest.fixture(autouse=True)
def products(kernels: list[TunedKernel], monkeypatch: pytest.MonkeyPatch) -> list[TunedKernel]:
    """Two kernels are all that the export has, and get equal parts however long they take."""
    chosen = [each for each in kernels if each.task.label.startswith("product")][:2]
    monkeypatch.setattr(tune_export, "tuned_kernels", lambda *_: chosen)
    monkeypatch.setattr(SharedRun, "part", lambda _run, _task, behind: 1 / (1 + len(behind)))
    return chosen


def trials(store: Path) -> dict[str, list[Entry]]:
    """What was tried; on a busy machine some get no time, because the default beside them never holds still."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in read_ledger(store).entries:
        if entry.candidate and entry.kind in (Kind.TRIAL, Kind.FAILED):
            found[entry.key.workload].append(entry)
    return found


def test_two_boards_share_the_kernels_and_each_kernel_is_on_one(
    exported: Exported,
    pair: tuple[Board, Farm, Farm],
    products: list[TunedKernel],
    host: TargetSpec,
    tmp_path: Path,
) -> None:
    board, _, _ = pair
    done = tune(
        exported.folder, host, tmp_path, TuneOptions(2, threads=1, progress=False, board=board, boards=0), print
    )
    assert (done.trials, done.failed, done.ended, done.boards) == (2, {}, "", 2)
    assert "of 2 boards together" in done.lines()[-1]
    assert trials(tmp_path).keys() == {each.task.key.workload for each in products}
    boards = [{entry.state["board"] for entry in found} for found in trials(tmp_path).values()]
    assert all(len(each) == 1 for each in boards), "a kernel is measured on one board"
    assert len(set[object]().union(*boards)) == 2, "both had work"
    assert done.costs.run > 0
    wait_for(lambda: free_boards(board) == 2)


def begun(words: list[str], log: Path) -> int:
    """A process of its own session that runs the command ``words`` as a shell would start it in the foreground."""
    if (child := os.fork()) == 0:
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts tests may have it ignored
            with log.open("w", buffering=1) as out, redirect_stdout(out), redirect_stderr(out):
                code = main(words)
            os._exit(code)
        finally:
            os._exit(99)
    return child


def in_session(leader: int) -> list[str]:
    """Processes of the session of ``leader``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            if int(rest.split()[3]) == leader:
                found.append(name)
    return found


@pytest.mark.parametrize("whole", [True, False], ids=["terminal", "kill"])
def test_ctrl_c_keeps_what_was_measured_and_gives_every_board_back(
    exported: Exported, pair: tuple[Board, Farm, Farm], tmp_path: Path, whole: bool
) -> None:
    """A terminal interrupts every process of a command, kill the one that it names."""
    board, _, _ = pair
    wait_for(lambda: free_boards(board) == 2)
    words = ["tune", str(exported.folder), "--board", str(board), "--boards", "2", "--trials", "100000", "--threads"]
    child = begun([*words, "1", "--records", str(tmp_path / "records")], tmp_path / "log")
    wait_for(lambda: len(read_ledger(tmp_path / "records").entries) == 2)
    (os.killpg if whole else os.kill)(child, signal.SIGINT)
    start = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert time.monotonic() - start < 20
    log = (tmp_path / "log").read_text()
    assert "tvm-flow: interrupted; every finished measurement is kept, run the same command again" in log
    assert "Traceback" not in log
    assert in_session(child) == []
    found = read_ledger(tmp_path / "records")
    assert found.skipped == () and len(found.entries) >= 2, "both defaults, and races if one was finished"
    wait_for(lambda: free_boards(board) == 2, 30)


def test_members_that_do_not_end_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(ready: Connection) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready.send(())
        time.sleep(600)

    monkeypatch.setattr(board_team, "GIVE_BACK", 1.0)
    context, members = multiprocessing.get_context("fork"), list[Member]()
    for _ in range(4):
        ours, theirs = context.Pipe()
        members.append(Member(context.Process(target=stay, args=(theirs,)), ours))
        members[-1].process.start()
        ours.recv()
    processes, start = [each.process for each in members], time.monotonic()
    Team(members).close()
    assert time.monotonic() - start < 3
    assert not any(each.is_alive() for each in processes)


def test_an_interrupt_that_the_compiler_makes_an_error_of_is_one(
    products: list[TunedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lowered(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise BuildError("kernel k: TVM could not lower it: ; report this graph") from None

    monkeypatch.setattr(workloads, "with_choices", lowered)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a member has it
    try:
        with pytest.raises(KeyboardInterrupt):
            workloads.scheduled(products[0].packed, products[0].kernel, DEFAULT)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_minutes_end_the_work_of_all_boards(
    exported: Exported, pair: tuple[Board, Farm, Farm], host: TargetSpec, tmp_path: Path
) -> None:
    board, _, _ = pair
    wait_for(lambda: free_boards(board) == 2)
    asked = TuneOptions(0, minutes=0.1, threads=1, progress=False, board=board, boards=2)
    done = tune(exported.folder, host, tmp_path, asked, print)
    assert (done.failed, done.ended, done.interrupted) == ({}, "", False)
    assert done.seconds < 30, "six, and what is raced when they are over"
    assert done.trials == sum(map(len, trials(tmp_path).values()))
    wait_for(lambda: free_boards(board) == 2, 30)


def test_the_time_of_a_job_begins_before_its_board_is_got(
    products: list[TunedKernel], host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(*_: object) -> tuple[SimpleNamespace, None]:
        time.sleep(0.2)
        return SimpleNamespace(close=lambda: None), None

    def left(_bench: object, _task: object, seconds: float) -> Entry:
        raise NoTimeError(f"{seconds}")

    monkeypatch.setattr(board_team, "hold_board", hold)
    monkeypatch.setattr(board_team, "time_default", left)
    (tmp_path / "store").mkdir()
    task, said = products[0].task, list[float]()

    def see(_: Task, message: Message) -> None:
        if isinstance(message, Done):
            said.append(float(message.failed))

    bench = BoardBench({}, host, 1, 1, tmp_path, board=Board("127.0.0.1", 1, KEY))
    with closing(hire([bench], host, tmp_path / "store")) as team:
        team.share([task], lambda *_: Job(task, seconds=5.0), see)
    assert said[0] <= 4.8


def test_a_board_that_is_lost_midway_leaves_its_kernel_to_the_other(
    exported: Exported,
    pair: tuple[Board, Farm, Farm],
    products: list[TunedKernel],
    host: TargetSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board, one, _ = pair
    monkeypatch.setattr(board_program, "RETURN", 2.0)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "trials at most" in text:
            one.stop_server()

    done = tune(exported.folder, host, tmp_path, TuneOptions(2, threads=1, progress=False, board=board, boards=2), say)
    assert (done.trials, done.failed, done.ended) == (2, {}, "")
    assert trials(tmp_path).keys() == {each.task.key.workload for each in products}
    (lost,) = [text for text in said if "lost" in text]
    assert re.search(r"board .*/two-boards: lost.*; product .* is for one of the 1 others", lost)


def test_when_no_board_is_left_the_first_cause_is_told(
    exported: Exported, farm: Farm, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_session, "ACQUIRE", 1.0)
    board = Board("127.0.0.1", farm.port, "no-board")
    done = tune(
        exported.folder, host, tmp_path, TuneOptions(2, threads=1, progress=False, board=board, boards=2), print
    )
    assert (done.trials, done.ended.partition(":")[0]) == (0, "board 127.0.0.1")
    assert "never free" in done.ended


def test_boards_without_a_tracker_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tune", "--boards", "2"])
    assert "--boards: expected --board HOST:PORT/KEY" in capsys.readouterr().err
