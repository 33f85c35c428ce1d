"""Boards over a real tracker and server of TVM on loopback: what they are, and every way in which one is lost."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from support.board_farm import KEY, Farm, free_port
from support.execution import HOST

from tvm_flow.cli import main
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec, load_target
from tvm_flow.toolchain.zig import zig_cc
from tvm_flow.tune import board_check, board_session
from tvm_flow.tune.board_address import Board, parse_board
from tvm_flow.tune.board_check import Fingerprint, check_board, hold_board, list_boards, require_target
from tvm_flow.tune.board_program import BoardProcess, link_board
from tvm_flow.tune.board_session import BoardError, Remote, _serve
from tvm_flow.tune.entries import DEFAULT, Kind
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.ledger import read_ledger
from tvm_flow.tune.local_bench import BoardBench
from tvm_flow.tune.rounds import NoTimeError
from tvm_flow.tune.search import Search
from tvm_flow.tune.tune_export import TuneOptions, tune

HANGS = """
#include <stdint.h>
int __tvm_ffi_hangs(void *s, const void *a, int32_t n, void *r);
int __tvm_ffi_hangs(void *s, const void *a, int32_t n, void *r) { (void)s, (void)a, (void)n, (void)r; for (;;) { } }
int __tvm_ffi_fails(void *s, const void *a, int32_t n, void *r);
int __tvm_ffi_fails(void *s, const void *a, int32_t n, void *r) { (void)s, (void)a, (void)n, (void)r; return -1; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One kernel that never returns, one that fails; both in the first object, the second is an empty archive."""
    folder = tmp_path_factory.mktemp("library")
    triple = f"{HOST.architecture}-linux-gnu.2.34"
    zig_cc(("-O1", "-fPIC", "-xc", "-c", "-o", str(folder / "hangs.o"), "-"), "hangs", triple, source=HANGS)
    (folder / "fails.o").write_bytes(b"!<arch>\n")
    return link_board(["hangs", "fails"], HOST, folder)


ARGS = (np.zeros(4, np.float32), np.zeros(4, np.float32))


def test_an_address_is_a_tracker_and_a_key() -> None:
    assert parse_board("localhost:9190/rpi5") == Board("localhost", 9190, "rpi5")
    assert parse_board("[::1]:9190/a.b-c").host == "::1"
    for wrong in ("localhost", "localhost:9190", "localhost:0/a", "localhost:99999/a", ":1/a", "a:1/b/c", "a:1/"):
        with pytest.raises(ConfigError, match="HOST:PORT/KEY"):
            parse_board(wrong)


def test_an_address_beyond_loopback_says_what_it_risks() -> None:
    assert Board("localhost", 9190, "a").risk == ""
    assert "no authentication" in Board("192.168.1.7", 9190, "a").risk
    assert "ssh -N -L 9190:localhost:9190 192.168.1.7" in Board("192.168.1.7", 9190, "a").risk


def test_a_board_that_lacks_a_feature_is_refused_by_name(host: TargetSpec) -> None:
    require_target("b", Fingerprint(host.features, 4, {}), host)
    with pytest.raises(BuildError, match=r"none of \S+; it is another board"):
        require_target("b", Fingerprint(frozenset(sorted(host.features)[1:]), 4, {}), host)


def test_a_tracker_lists_its_keys(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "list", f"127.0.0.1:{farm.port}"]) == 0
    assert f"{KEY}: 1 free" in capsys.readouterr().out


def test_a_tracker_that_is_not_there_is_named(tmp_path: Path, host: TargetSpec) -> None:
    with pytest.raises(BuildError, match="tracker 127"):
        list_boards("127.0.0.1", free_port())
    with pytest.raises(BuildError, match="no tracker answers"):
        check_board(Board("127.0.0.1", free_port(), KEY), host, tmp_path)


def test_a_board_tells_its_features_and_cores(farm: Farm, host: TargetSpec, tmp_path: Path) -> None:
    found = check_board(farm.board, host, tmp_path)
    assert found.features >= host.features
    assert found.cores == os.cpu_count()
    assert "load" in found.state


def test_a_board_of_another_architecture_is_refused(farm: Farm, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot load a library for this target"):
        check_board(farm.board, load_target("raspberry-pi-5"), tmp_path)


def test_candidates_run_on_a_board_as_they_run_here(
    farm: Farm, host: TargetSpec, product: TunedKernel, tmp_path: Path
) -> None:
    bench = BoardBench({product.task.key.workload: product}, host, 2, 2, tmp_path, board=farm.board)
    candidate = product.task.space[0]
    with bench.open(product.task, [candidate]) as sampler:
        assert sampler.sample(DEFAULT) > 0
        assert sampler.sample(candidate) > 0
        assert "load" in sampler.state()


def test_a_key_without_a_board_is_never_free(farm: Farm, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_session, "ACQUIRE", 2.0)
    process = BoardProcess(Board("127.0.0.1", farm.port, "nobody"), library, 1, ARGS)
    with pytest.raises(BoardError, match="never free"):
        process.seconds(0, 1, 5.0)
    assert process._child is None


def test_a_board_is_not_waited_for_longer_than_there_is_time(farm: Farm, host: TargetSpec, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"never free.* in 0.5 s"):
        hold_board(Board("127.0.0.1", farm.port, "nobody"), host, tmp_path, 0.5)


def test_a_session_whose_owner_ends_before_it_reads_an_answer_ends_in_silence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Answers(Remote):
        def on_read(self, path: str) -> str:
            return path

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, ours, Answers(Board("127.0.0.1", 1, KEY))))
    child.start()
    theirs.close()
    ours.send(("read", ("a",)))
    assert ours.poll(60.0)
    ours.close()
    child.join(60.0)
    assert child.exitcode == 0 and "Traceback" not in capfd.readouterr().err


def test_a_busy_board_is_never_free_and_free_again_when_it_is_given_back(
    farm: Farm, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (BoardProcess(farm.board, library, 1, ARGS) for _ in range(2))
    assert first.read("/proc/loadavg")
    monkeypatch.setattr(board_session, "ACQUIRE", 2.0)
    with pytest.raises(BoardError, match="never free"):
        second.read("/proc/loadavg")
    first.close()
    monkeypatch.setattr(board_session, "ACQUIRE", 60.0)
    assert second.read("/proc/loadavg")
    second.close()


def test_a_kernel_that_fails_on_the_board_is_no_fault_of_the_board(farm: Farm, library: Path) -> None:
    process = BoardProcess(farm.board, library, 1, ARGS)
    with pytest.raises(NoTimeError) as caught:
        process.seconds(1, 1, 30.0)
    with pytest.raises(NoTimeError, match="failed on the board"):
        process.output(1, 30.0)
    assert not isinstance(caught.value, BoardError)
    process.close()


def test_a_board_that_hangs_is_given_up_in_time(farm: Farm, library: Path) -> None:
    process = BoardProcess(farm.board, library, 1, ARGS)
    start = time.monotonic()
    assert process.read("/proc/loadavg")
    with pytest.raises(BoardError, match=r"hung: no answer to time in 1 s"):
        process.seconds(0, 1, 1.0)
    assert time.monotonic() - start < 60
    assert process._child is None
    farm.stop_server()
    farm.start_server()


def test_a_board_that_is_switched_off_is_lost(farm: Farm, library: Path) -> None:
    process = BoardProcess(farm.board, library, 1, ARGS)
    assert process.read("/proc/loadavg")
    farm.stop_server()
    with pytest.raises(BoardError, match="lost"):
        process.read("/proc/loadavg")
    farm.start_server()
    assert process.read("/proc/loadavg"), "a board that is back is used again"
    process.close()


def test_bench_says_how_fast_and_steady_a_board_is(farm: Farm, host: TargetSpec) -> None:
    (line,) = board_check.bench_board(farm.board, host, 1)
    assert "GMAC/s" in line
    assert "exact" in line


def test_an_export_is_tuned_on_a_board(exported: Exported, farm: Farm, host: TargetSpec, tmp_path: Path) -> None:
    options = TuneOptions(trials=1, only="product", progress=False, board=farm.board)
    done = tune(exported.folder, host, tmp_path, options, lambda _: None)
    assert (done.trials, done.failed, done.ended) == (1, {}, "")
    (trial,) = (entry for entry in read_ledger(tmp_path).entries if entry.kind is Kind.TRIAL and entry.candidate)
    assert trial.exact
    assert "load" in trial.state


def test_a_board_that_is_lost_ends_the_tuning_and_keeps_what_was_measured(
    exported: Exported, farm: Farm, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TuneOptions(trials=1, only="product", progress=False, board=farm.board)

    def lost(*_: object) -> None:
        raise BoardError("board b: lost: its session ended at time")

    monkeypatch.setattr(Search, "run", lost)
    done = tune(exported.folder, host, tmp_path, options, lambda _: None)
    assert "lost" in done.ended
    assert read_ledger(tmp_path).entries, "the defaults were timed"


def test_another_machine_than_the_target_is_no_place_to_measure(exported: Exported, tmp_path: Path) -> None:
    options = TuneOptions(trials=1, progress=False)
    with pytest.raises(BuildError, match="--board HOST:PORT/KEY"):
        tune(exported.folder, load_target("raspberry-pi-5"), tmp_path, options, lambda _: None)
