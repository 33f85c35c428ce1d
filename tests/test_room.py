"""Room for an output: names, permission and space are asked before the work."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tvm_flow.artifact import atomic_path, write_stamp
from tvm_flow.errors import ConfigError
from tvm_flow.room import AROUND, bytes_in, expect_room


def test_a_folder_that_is_not_there_yet_has_the_room_of_the_one_above(tmp_path: Path) -> None:
    expect_room(tmp_path / "a" / "b" / "ranges.safetensors", 1000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "needed"), [(3_000_000, "3.0 MB"), (5_000_000_000, "5.0 GB")])
def test_too_little_space_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, needed: str) -> None:
    monkeypatch.setattr("tvm_flow.room.shutil.disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    expect_room(tmp_path / "x", 2_000_000)
    with pytest.raises(ConfigError, match=f"got: 2.0 MB free in {tmp_path}, of about {needed} that"):
        expect_room(tmp_path / "x", size)


def test_names_are_measured_in_bytes_with_what_is_put_around_them(tmp_path: Path) -> None:
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - AROUND
    longest = tmp_path / ("x" * most)
    expect_room(longest)
    with atomic_path(longest) as temporary:
        temporary.write_text("fits")
    write_stamp(longest, {})
    for name in ("x" * (most + 1), "靴" * (most // 3 + 1)):
        with pytest.raises(ConfigError, match=rf"got: a name of {len(name.encode())} bytes, of at most {most}"):
            expect_room(tmp_path / "new" / name)


def test_a_path_through_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=f"got: {tmp_path / 'file'} is no folder; check path"):
        expect_room(tmp_path / "file" / "x")


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm_flow.room.os.access", lambda _, mode: not mode & os.W_OK)  # root may write anywhere
    with pytest.raises(ConfigError, match=f"got: no permission to write in {tmp_path}, or a read-only file system"):
        expect_room(tmp_path / "x")


def test_bytes_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "a" / "b" / "y").write_bytes(b"4567")
    assert [bytes_in(tmp_path / name) for name in ("a", "a/x", "absent")] == [7, 3, 0]
