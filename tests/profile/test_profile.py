"""A profile says what each call is, how long it took, and what binds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import toy_bundle
from support.signed_bundles import KEY, trust_in

from tvm_flow.cli import main
from tvm_flow.errors import BundleError, ConfigError, NotSignedError
from tvm_flow.plan.described import DescribedCall
from tvm_flow.profile.call_names import CALLS, read_calls
from tvm_flow.profile.measure import Profiled, TimedCall, timed_calls
from tvm_flow.profile.report import as_json, chrome_trace, clock_lines, clocks_of, rows_of, table, traffic
from tvm_flow.profile.roofline import Bound, bound, known_peaks
from tvm_flow.tune.board_address import Board

PEAKS = known_peaks({"avx2": 100e9, "": 50e9}, 10e9)


def timed(name: str, kind: str, milliseconds: int, macs: int = 0, moved: int = 0, start: int = 0) -> TimedCall:
    what = DescribedCall(name, kind, macs, moved, "avx2" if kind == "integer product" else "")
    return TimedCall(0, 0, "k1_matmul", "cpu", start, milliseconds * 1_000_000, what)


def test_compute_binds_what_multiplies_much_and_memory_what_moves_much() -> None:
    assert bound(10**9, 1000, 0.02, PEAKS, "avx2") == Bound("compute", 0.5)
    assert bound(0, 10**8, 0.02, PEAKS, "") == Bound("memory", 0.5)


def test_a_peak_that_nobody_knows_gives_no_share() -> None:
    assert bound(10**9, 1000, 0.02, PEAKS, "smmla") is None


def test_blocks_of_one_layer_share_a_row_and_the_longest_kind_comes_first() -> None:
    calls = [
        timed("blocks.0.msa", "norm", 1, moved=1000),
        timed("blocks.0.mlp.fc1", "integer product", 20, 10**9),
        timed("blocks.11.mlp.fc1", "integer product", 10, 10**9),
    ]
    first, second = rows_of(calls, PEAKS, threads=1)
    assert (first.layer, first.calls) == ("blocks.*.mlp.fc1", 2)
    assert (first.total_ns, first.fastest_ns) == (30_000_000, 10_000_000)
    assert first.bound == Bound("compute", 1.0) and second.kind == "norm"


def test_threads_share_the_time_of_a_call() -> None:
    (row,) = rows_of([timed("a.b", "integer product", 10, 10**9)], PEAKS, threads=2)
    assert row.bound == Bound("compute", 0.5)


def test_the_table_adds_up_to_all_calls() -> None:
    text = table(rows_of([timed("a.b", "move", 1), timed("a.c", "norm", 3)], PEAKS, threads=1))
    assert text.splitlines()[-1].split() == ["all", "2", "4.00", "100.0%"]


def test_bytes_are_set_beside_the_least() -> None:
    """One of two calls that read a tensor of 100 bytes, and one that only moves it, are above the least."""
    calls = [
        TimedCall(0, 0, "k", "cpu", 0, 10, DescribedCall(f"a.{i}", kind, 0, 300, "", least))
        for i, (kind, least) in enumerate([("norm", 300), ("norm", 200), ("move", 0)])
    ]
    rows = rows_of(calls, PEAKS, threads=1)
    assert traffic(rows) == "moved 0.0 MB, 1.80 times the least, 0.0 MB"
    assert [as_json(rows, 1, {})[key] for key in ("moved_bytes", "least_bytes")] == [900, 500]
    assert traffic(rows_of([timed("a.b", "norm", 1, moved=10**6)], PEAKS, threads=1)) == "moved 1.0 MB"


def test_a_trace_has_an_event_for_each_call_on_the_devices_track() -> None:
    events = chrome_trace([timed("a.b", "move", 1, start=5000), timed("a.c", "move", 1, start=9000)])["traceEvents"]
    assert [event["ph"] for event in events] == ["M", "X", "X"]
    assert [(event["name"], event["ts"], event["dur"]) for event in events[1:]] == [("a.b", 0, 1000), ("a.c", 4, 1000)]


def test_a_devices_own_clock_is_named_and_the_cpus_peaks_bind_no_other_device() -> None:
    here = timed("a.b", "integer product", 10, 10**9)
    there, another = (replace(here, device=name, own_clock=own) for name, own in (("vulkan", True), ("toy", False)))
    clocks = clocks_of([here, there, another])
    assert clocks == {"cpu": "host", "vulkan": "device", "toy": "host"}
    vulkan, toy = clock_lines(clocks).splitlines()[1:]
    assert vulkan == "vulkan: times by its own clock" and toy.startswith("toy: times by the host's clock")
    (row,) = rows_of([there], PEAKS, threads=1)
    assert row.total_ns == 10_000_000 and row.bound is None


def test_the_runtimes_clock_times_every_call_of_the_steps_that_were_asked_for(bundle_dir: Path) -> None:
    calls, threads = timed_calls(Profiled(bundle_dir, steps=2, threads=1))
    assert threads == 1 and {call.step for call in calls} == {0, 1}
    assert all(call.nanoseconds > 0 for call in calls)
    ends = [call.start + call.nanoseconds for call in calls]
    assert all(end <= after.start for end, after in zip(ends, calls[1:], strict=False)), "one call after another"


def test_a_bundle_without_names_is_profiled_by_its_kernels(bundle_dir: Path) -> None:
    calls, _ = timed_calls(Profiled(bundle_dir, threads=1))
    assert {call.what.kind for call in calls} == {"unknown"} and all(call.what.name == call.kernel for call in calls)


def test_another_machine_is_refused_by_name(bundle_dir: Path) -> None:
    with pytest.raises(ConfigError, match="machine 'qemu': expected host"):
        timed_calls(Profiled(bundle_dir, on="qemu"))


@pytest.mark.parametrize("board", [None, Board("127.0.0.1", 1, "nobody")])
def test_one_that_nobody_signed_is_not_run_here_or_sent_to_a_board(bundle_dir: Path, board: Board | None) -> None:
    with pytest.raises(NotSignedError):
        timed_calls(Profiled(bundle_dir, board=board, trust=trust_in(KEY)))


def test_a_damaged_file_of_names_is_said(tmp_path: Path) -> None:
    (tmp_path / CALLS).write_text('{"schema": 1, "groups": {"g": [{"nom": 1}]}}')
    with pytest.raises(BundleError, match="expected the calls of a bundle"):
        read_calls(tmp_path)


def test_the_command_prints_json_and_writes_a_trace(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    assert main(["profile", str(bundle_dir), "--json", "--trace", str(trace), "--threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (
        report["threads"] == 1
        and report["clocks"] == {"cpu": "host"}
        and sum(row["calls"] for row in report["rows"]) > 0
    )
    events = json.loads(trace.read_text())["traceEvents"]
    assert len([event for event in events if event["ph"] == "X"]) == sum(row["calls"] for row in report["rows"])
    assert len({event["tid"] for event in events if event["ph"] == "X"}) == toy_bundle.BRANCHES
