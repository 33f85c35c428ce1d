"""The store of measurements: what is written is found again, and nothing that was damaged ever counts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.errors import ConfigError
from tvm_flow.tune.entries import Entry, Key, Kind
from tvm_flow.tune.ledger import Writer, append_all, decode, encode, in_use, read_ledger

KEY = Key("w1", "x86_64-linux-gnu znver3", "avx2", "apache-tvm 0.27", "paired-1 threads=1")
ENTRY = Entry(KEY, Kind.TRIAL, '{"rows":4}', samples=(1e-3, 2e-3), baseline=(2e-3, 2e-3), state={"governor": "none"})
OTHERS = [replace(ENTRY, candidate=f'{{"rows":{rows}}}') for rows in (1, 2, 6)]


def damaged(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    append_all(tmp_path, OTHERS)
    found = read_ledger(tmp_path)
    assert found.entries == tuple(OTHERS)
    assert not found.skipped


def test_two_writers_of_one_store_have_files_of_their_own(tmp_path: Path) -> None:
    with Writer(tmp_path) as one, Writer(tmp_path) as other:
        for first, second in pairwise(OTHERS):
            one.append(first)
            other.append(second)
        assert one.path != other.path
        assert in_use(one.path)
    assert not in_use(one.path)
    assert set(read_ledger(tmp_path).entries) == set(OTHERS)
    assert len(read_ledger(tmp_path).entries) == 3, "a record that two files hold is one record"


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "none").entries == ()


def test_a_writer_removes_what_a_killed_one_left_unfinished(tmp_path: Path) -> None:
    (tmp_path / ".run-1.json.0123abcd.tmp").mkdir()
    with Writer(tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_writer_that_measures_nothing_leaves_no_file(tmp_path: Path) -> None:
    with Writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("killed_at", range(4))
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_writer_killed_at_any_write_loses_at_most_the_unfinished_line(
    tmp_path: Path, killed_at: int, share: float
) -> None:
    """At its write number ``killed_at`` the process writes ``share`` of the line and gets SIGKILL."""
    written = [ENTRY, *OTHERS]
    if (child := os.fork()) == 0:
        real, count = os.write, iter(range(100))

        def write(file: int, data: bytes) -> int:
            if next(count) == killed_at:
                real(file, data[: int(len(data) * share)])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(file, data)

        os.write = write
        with Writer(tmp_path) as writer:
            for entry in written:
                writer.append(entry)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    kept = killed_at + (share == 1.0)
    assert read_ledger(tmp_path).entries == tuple(written[:kept])
    append_all(tmp_path, written[kept:])
    again = read_ledger(tmp_path).entries
    assert (len(again), set(again)) == (len(written), set(written)), "the next writer goes on"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-9], "no end"),
        (lambda data: data.replace(b"\n", b"\n\n", 1), "blank"),
        (lambda data: data.replace(b"0.002", b"0.001", 1), "checksum"),
        (lambda data: data.replace(b"0.001", b"NaN", 1), "NaN"),
        (lambda data: data[:-1] + b"\0" * 4096 + b"\n", "NUL"),
        (lambda data: data + b'{"i":[["{}",["llvm"]],[[1e-9],[]]]}\n', "no record of this project"),
        (lambda data: data + b"[" * 100_000 + b"\n", "no JSON"),
        (lambda data: data + b"\xff\xfe\n", "no JSON"),
        (lambda data: data + b"7" * 2_000_000 + b"\n", "longer"),
    ],
)
def test_a_damaged_line_is_skipped_with_its_reason(
    tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    path = append_all(tmp_path, [*OTHERS, ENTRY])
    damaged(path, change)
    found = read_ledger(tmp_path)
    assert len(found.skipped) == 1
    assert reason in str(found.skipped[0])
    assert len(found.entries) >= 3
    assert set(found.entries) <= {*OTHERS, ENTRY}, "no damage makes another record"


@pytest.mark.parametrize("latency", [0.0, -1e-3, float("inf"), float("nan")])
def test_an_impossible_latency_is_no_record(latency: float) -> None:
    with pytest.raises(ConfigError, match="positive latencies"):
        replace(ENTRY, samples=(1e-3, latency))


def test_samples_need_partners() -> None:
    with pytest.raises(ConfigError, match="as many of candidate 0"):
        replace(ENTRY, baseline=(1e-3,))


@pytest.mark.parametrize(
    "record",
    [
        {"schema": 2},
        ENTRY.to_json() | {"more": 1},
        ENTRY.to_json() | {"kind": "winner"},
        ENTRY.to_json() | {"exact": 1},
        ENTRY.to_json() | {"samples": "12"},
        ENTRY.to_json() | {"samples": [True]},
        ENTRY.to_json() | {"key": {"workload": "w"}},
        [],
    ],
)
def test_a_record_of_another_shape_is_refused(record: object) -> None:
    with pytest.raises(ConfigError):
        Entry.from_json(json.loads(json.dumps(record)))


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_no_single_byte_turns_a_line_into_another_record(place: int, byte: int) -> None:
    line = bytearray(encode(ENTRY)[:-1])
    line[place % len(line)] = byte
    with suppress(ConfigError):
        assert decode(bytes(line)) == ENTRY


def test_a_full_disk_does_not_join_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with Writer(tmp_path) as writer:
        writer.append(ENTRY)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, data: real(file, data[:7]))
            with pytest.raises(OSError, match="space"):
                writer.append(OTHERS[0])
        writer.append(OTHERS[1])
    found = read_ledger(tmp_path)
    assert (set(found.entries), found.skipped) == ({ENTRY, OTHERS[1]}, ())


def test_a_disk_that_is_full_from_the_start_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda _file, _data: 0)
    with pytest.raises(OSError, match="space") as caught, Writer(tmp_path) as writer:
        writer.append(OTHERS[0])
    assert str(caught.value.filename).startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())
