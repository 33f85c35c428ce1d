"""Files are whole or absent, and a stamp holds only for the very output it was written for."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tvm_flow import artifact
from tvm_flow.artifact import (
    atomic_path,
    exclusive,
    expect_file,
    is_current,
    make_executable,
    make_stamp,
    read_json,
    require_unchanged,
    sha256_file,
    stamp_path,
    stamped,
    write_bytes,
    write_json,
    write_stamp,
)
from tvm_flow.errors import ConfigError
from tvm_flow.scratch import beside

STAGE = "tvm_flow.artifact"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestAtomicPath:
    def test_success_shows_the_file_only_when_it_is_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "folder" / "file.bin"
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            assert not target.exists()
            assert temporary.parent.parent == target.parent, "a rename is atomic within one file system only"
            temporary.write_bytes(b"whole")
        assert target.read_bytes() == b"whole"
        assert names_in(target.parent) == ["file.bin"]

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
    def test_an_exception_leaves_what_was_there(self, tmp_path: Path, kind: type[BaseException]) -> None:
        target = tmp_path / "file.bin"
        target.write_bytes(b"before")
        with pytest.raises(kind), atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise kind
        assert target.read_bytes() == b"before"
        assert names_in(tmp_path) == ["file.bin"]

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
    def test_an_exception_leaves_nothing_where_nothing_was(self, tmp_path: Path, kind: type[BaseException]) -> None:
        with pytest.raises(kind), atomic_path(tmp_path / "file.bin") as temporary:
            temporary.write_bytes(b"half")
            raise kind
        assert names_in(tmp_path) == []

    def test_a_writer_that_wrote_nothing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.bin"):
            pass
        assert names_in(tmp_path) == []

    def test_a_full_disk_leaves_what_was_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_bytes(tmp_path / "file.bin", b"before")

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(artifact.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_bytes(tmp_path / "file.bin", b"after")
        assert (tmp_path / "file.bin").read_bytes() == b"before"
        assert names_in(tmp_path) == ["file.bin"]

    def test_everyone_can_read_what_a_private_writer_made(self, tmp_path: Path) -> None:
        with atomic_path(tmp_path / "file.bin") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        assert (tmp_path / "file.bin").stat().st_mode & 0o777 == 0o644

    def test_nobody_else_can_read_what_a_private_user_made(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            write_bytes(tmp_path / "file.bin", b"mine")
            make_executable(tmp_path / "file.bin")
        finally:
            os.umask(before)
        assert (tmp_path / "file.bin").stat().st_mode & 0o777 == 0o700

    def test_a_link_stays_and_what_it_names_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "elsewhere" / "real")
        for data in (b"first", b"second"):
            write_bytes(link, data)
            assert link.is_symlink() and (tmp_path / "elsewhere" / "real").read_bytes() == data
        assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real"]
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(
            ConfigError, match=r"loop: expected a link that ends in a file or folder, got one that ends"
        ):
            write_bytes(tmp_path / "loop", b"")

    def test_two_writers_of_one_target_do_not_share_a_temporary_file(self, tmp_path: Path) -> None:
        target = tmp_path / "file.bin"
        with atomic_path(target) as one, atomic_path(target) as two:
            assert one != two
            one.write_bytes(b"one")
            two.write_bytes(b"two")
        assert target.read_bytes() == b"one", "the outer one is renamed last"


class TestJson:
    def test_round_trip_is_sorted_text(self, tmp_path: Path) -> None:
        write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": None})
        assert read_json(tmp_path / "a.json") == {"a": None, "b": [1, 2.5]}
        text = (tmp_path / "a.json").read_text()
        assert text.index('"a"') < text.index('"b"')
        assert text.endswith("}\n")

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
    def test_a_damaged_file_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad\.json: expected a readable JSON file, got: .*check the path"):
            read_json(tmp_path / "bad.json")

    def test_absent_files_and_folders_are_named(self, tmp_path: Path) -> None:
        for path in (tmp_path / "absent.json", tmp_path):
            with pytest.raises(ConfigError, match=str(path)):
                read_json(path)

    def test_what_json_cannot_hold_writes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError):
            write_json(tmp_path / "a.json", {"path": tmp_path})
        assert names_in(tmp_path) == []


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path, dict[str, Any]]:
    """(input, output, stamp) of a finished command."""
    (tmp_path / "in").write_bytes(b"input")
    write_bytes(tmp_path / "out", b"output")
    stamp = make_stamp({"in": tmp_path / "in"}, {"alpha": 0.5, "steps": (1, 2)}, STAGE)
    write_stamp(tmp_path / "out", stamp)
    return tmp_path / "in", tmp_path / "out", stamp


class TestStamped:
    def test_a_new_output_is_known_and_not_current_until_it_is_whole(self, tmp_path: Path) -> None:
        stamp, output = make_stamp({}, {"run": "mine"}, STAGE), tmp_path / "out"
        with stamped(output, stamp):
            assert read_json(stamp_path(output))["options"] == {"run": "mine"}
            write_bytes(output, b"output")
            assert not is_current(output, stamp)
        assert is_current(output, stamp)

    def test_what_fails_leaves_nothing_of_a_new_output_and_all_of_an_old_one(self, tmp_path: Path) -> None:
        stamp, output = make_stamp({}, {"run": "mine"}, STAGE), tmp_path / "out"
        with pytest.raises(KeyboardInterrupt), stamped(output, stamp):
            raise KeyboardInterrupt
        assert names_in(tmp_path) == []
        with stamped(output, stamp):
            write_bytes(output, b"output")
        with pytest.raises(KeyboardInterrupt), stamped(output, make_stamp({}, {"run": "other"}, STAGE)):
            raise KeyboardInterrupt
        assert is_current(output, stamp)


class TestStamp:
    def test_holds_after_writing(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        source, output, stamp = made
        assert is_current(output, stamp)
        reordered = make_stamp({"in": source}, {"steps": [1, 2], "alpha": 0.5}, STAGE)
        assert is_current(output, reordered), "order does not matter"

    def test_another_input_option_or_version_is_stale(
        self, made: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source, output, stamp = made
        assert not is_current(output, make_stamp({"in": source}, {"alpha": 0.25, "steps": (1, 2)}, STAGE))
        assert not is_current(output, make_stamp({}, {"alpha": 0.5, "steps": (1, 2)}, STAGE))
        monkeypatch.setattr(artifact, "__version__", "99")
        assert not is_current(output, make_stamp({"in": source}, {"alpha": 0.5, "steps": (1, 2)}, STAGE))
        monkeypatch.undo()
        source.write_bytes(b"inpux")
        assert not is_current(output, make_stamp({"in": source}, {"alpha": 0.5, "steps": (1, 2)}, STAGE))
        assert is_current(output, stamp)

    def test_other_sources_are_stale(
        self, made: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An upgrade changes what a command writes, whether or not it changes the version."""
        source, output, _ = made
        inputs, options = {"in": source}, {"alpha": 0.5, "steps": (1, 2)}
        assert is_current(output, make_stamp(inputs, options, STAGE))
        assert not is_current(output, make_stamp(inputs, options, "tvm_flow.quantize.build")), "made by another stage"
        monkeypatch.setattr(artifact, "sources_sha256", lambda stage: f"another state of {stage}")
        assert not is_current(output, make_stamp(inputs, options, STAGE))

    @pytest.mark.parametrize("torn", [b"", b'{"version"', b"[]", b"null", b"3", b"\xff"])
    def test_a_torn_stamp_is_stale(self, made: tuple[Path, Path, dict[str, Any]], torn: bytes) -> None:
        _, output, stamp = made
        stamp_path(output).write_bytes(torn)
        assert not is_current(output, stamp)

    def test_every_shortened_stamp_is_stale(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        _, output, stamp = made
        whole = stamp_path(output).read_bytes()
        for length in range(len(whole) - 1):  # the last byte is a newline
            stamp_path(output).write_bytes(whole[:length])
            assert not is_current(output, stamp), length

    def test_a_missing_stamp_or_output_is_stale(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        _, output, stamp = made
        output.unlink()
        assert not is_current(output, stamp)
        write_bytes(output, b"output")
        assert is_current(output, stamp)
        stamp_path(output).unlink()
        assert not is_current(output, stamp)

    def test_an_output_that_changed_later_is_stale(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        """Killed between writing another output and its stamp, a command leaves the old stamp beside the new file."""
        _, output, stamp = made
        write_bytes(output, b"other!")
        assert not is_current(output, stamp)

    def test_a_folder_is_current_only_whole(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        write_bytes(folder / "lib" / "a.bin", b"a")
        write_bytes(folder / "b.bin", b"b")
        stamp = make_stamp({}, {}, STAGE)
        write_stamp(folder, stamp)
        assert is_current(folder, stamp)
        write_bytes(folder / ".b.bin.1234.tmp", b"left by a killed command")
        assert is_current(folder, stamp)
        (folder / "lib" / "a.bin").rename(folder / "a.bin")
        assert not is_current(folder, stamp)
        (folder / "a.bin").rename(folder / "lib" / "a.bin")
        assert is_current(folder, stamp)
        (folder / "b.bin").unlink()
        assert not is_current(folder, stamp)

    def test_it_is_hidden_beside_its_output(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        assert stamp_path(made[1]) == made[1].with_name(f".{made[1].name}.stamp.json") and stamp_path(made[1]).is_file()

    def test_a_missing_input_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"ranges .*absent: expected a readable file, got: No such file"):
            make_stamp({"ranges": tmp_path / "absent"}, {}, STAGE)

    def test_names_the_sha256_of_its_inputs(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        source, output, _ = made
        assert json.loads(stamp_path(output).read_text())["inputs"] == {"in": sha256_file(source)}
        assert sha256_file(source) == "c96c6d5be8d08a12e7b5cdc1b207fa6b2430974c86803d8891675e76fd992c20"


def test_more_folders_than_python_makes_at_once_are_refused(tmp_path: Path) -> None:
    place = tmp_path / ("a/" * sys.getrecursionlimit()) / "out"
    with pytest.raises(ConfigError, match="expected fewer folders in one another"), exclusive(place):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    expect_file(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    expect_file(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"expected a file or nothing to write to, got a folder; choose another"):
        expect_file(tmp_path)


_HOLDER = """
import sys, time
from pathlib import Path
from tvm_flow.artifact import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


class TestExclusive:
    def test_a_second_process_is_refused_until_the_first_is_gone(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", _HOLDER, str(tmp_path / "out")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            with pytest.raises(ConfigError, match="another command is writing it"), exclusive(tmp_path / "out"):
                pass
            with exclusive(tmp_path / "other"):
                pass
            holder.kill()  # no clean-up of its own
        with exclusive(tmp_path / "out"):
            pass

    def test_a_folder_that_its_maker_removes_meanwhile_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        maker, opened = ExitStack(), os.open
        maker.enter_context(beside(tmp_path / "later" / "a"))

        def late(*given: Any) -> int:
            monkeypatch.undo()
            maker.close()
            return opened(*given)

        monkeypatch.setattr(artifact.os, "open", late)
        with exclusive(tmp_path / "later" / "out"):
            assert names_in(tmp_path / "later") == [".out.lock"]

    def test_a_folder_that_it_made_and_that_stays_empty_goes_again(self, tmp_path: Path) -> None:
        with exclusive(tmp_path / "later" / "still" / "out"):
            pass
        assert names_in(tmp_path) == []
        with exclusive(tmp_path / "later" / "out"):
            (tmp_path / "later" / "out").write_text("made")
        assert names_in(tmp_path / "later") == ["out"]


class TestRequireUnchanged:
    def test_what_a_command_wrote_passes(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        require_unchanged(made[1], "quantize")

    def test_one_flipped_bit_is_named_with_what_to_do(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        output = made[1]
        data = bytearray(output.read_bytes())
        data[-1] ^= 1
        output.write_bytes(data)
        with pytest.raises(ConfigError, match=r"tvm-flow quantize wrote, .*; run quantize again, or delete"):
            require_unchanged(output, "quantize")
        stamp_path(output).unlink()
        require_unchanged(output, "quantize")

    @pytest.mark.parametrize("damage", [b"x", None])
    def test_a_file_of_a_folder_too(self, tmp_path: Path, damage: bytes | None) -> None:
        folder = tmp_path / "export"
        folder.mkdir()
        for name in ("export.json", "weights.bin"):
            (folder / name).write_bytes(b"whole")
        write_stamp(folder, make_stamp({}, {}, STAGE))
        require_unchanged(folder, "export")
        (folder / "weights.bin").unlink() if damage is None else (folder / "weights.bin").write_bytes(damage)
        with pytest.raises(ConfigError, match=f"{folder}: expected what tvm-flow export wrote"):
            require_unchanged(folder, "export")

    def test_a_damaged_stamp_is_named(self, made: tuple[Path, Path, dict[str, Any]]) -> None:
        stamp_path(made[1]).write_text("{")
        with pytest.raises(ConfigError, match="stamp"):
            require_unchanged(made[1], "quantize")
