"""Folders for what is not finished: gone after any end, and those of dead processes after the next start."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tvm_flow import folders, scratch
from tvm_flow.folders import keep_others, new_directory
from tvm_flow.scratch import UNFINISHED, WORK, beside, naming, sweep, temporary_folder

HOLD = """import sys, pathlib, signal; from tvm_flow.scratch import beside
with beside(pathlib.Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("held", flush=True)
    signal.pause()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def holder(output: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of the system's own folder, which other tests use."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class TestBeside:
    @pytest.mark.parametrize("kind", [UNFINISHED, WORK])
    def test_it_is_beside_the_output_and_gone_afterwards(self, tmp_path: Path, kind: str) -> None:
        with beside(tmp_path / "later" / "b", kind) as folder:
            assert folder.parent == tmp_path / "later" and folder.suffix == kind
        assert names(tmp_path) == [], "and so is the folder that was made for it"
        with pytest.raises(KeyboardInterrupt), beside(tmp_path / "b", kind) as folder:
            (folder / "weights.bin").write_bytes(bytes(9))
            raise KeyboardInterrupt
        assert names(tmp_path) == []

    def test_what_a_killed_process_left_is_removed_and_a_living_ones_stays(self, tmp_path: Path) -> None:
        dead, alive = holder(tmp_path / "b"), holder(tmp_path / "b")
        assert len(names(tmp_path)) == 2
        dead.send_signal(signal.SIGKILL)
        dead.communicate()
        with beside(tmp_path / "another output") as folder:
            assert len(names(tmp_path)) == 2 and folder.name in names(tmp_path)
        assert len(names(tmp_path)) == 1
        alive.kill()
        alive.communicate()
        sweep(tmp_path)
        assert names(tmp_path) == []

    def test_only_folders_of_these_names_are_removed(self, tmp_path: Path) -> None:
        kept = [".b.0123abcd.tmp.old.old", ".b.lock", ".b.notes.tmp", "b", "b.0123abcd.tmp"]
        for name in (".b.0123abcd.tmp", ".b.4567abcd.work", ".c.0123abcd.tmp.old", *kept, "c"):
            (tmp_path / name).mkdir()
        (tmp_path / ".file.0123abcd.tmp").write_text("of another program")
        (tmp_path / ".link.0123abcd.tmp").symlink_to(tmp_path / "b")
        sweep(tmp_path)
        sweep(tmp_path / "absent")
        assert names(tmp_path) == sorted([*kept, "c", ".file.0123abcd.tmp", ".link.0123abcd.tmp"])

    def test_one_that_is_swept_before_it_is_locked_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, swept = scratch._locked, []

        def late(folder: Path) -> int:
            if not swept:
                swept.append(folder)
                folder.rmdir()
            return real(folder)

        monkeypatch.setattr(scratch, "_locked", late)
        with beside(tmp_path / "b") as folder:
            assert folder.is_dir() and folder not in swept

    def test_an_error_inside_that_names_nothing_names_the_output(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="full") as caught, beside(tmp_path / "b", WORK) as folder:
            raise OSError(errno.ENOSPC, "full")
        assert caught.value.filename == str(tmp_path / "b") and not folder.exists()

    def test_above_what_fails_to_be_made_nothing_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(_folder: Path) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(scratch, "_locked", refused)
        with pytest.raises(OSError, match=str(tmp_path)), beside(tmp_path / "later" / "still" / "b"):
            pass
        assert names(tmp_path) == []

    def test_of_folders_above_of_which_one_cannot_be_made_none_stays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = os.mkdir

        def full(folder: Path, *given: int) -> None:
            if Path(folder).name == "still":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            made(folder, *given)

        monkeypatch.setattr(os, "mkdir", full)
        with pytest.raises(OSError, match=str(tmp_path)), beside(tmp_path / "later" / "still" / "b"):
            pass
        assert names(tmp_path) == []

    def test_a_folder_above_that_its_maker_removes_meanwhile_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        maker, token = ExitStack(), scratch.secrets.token_hex
        maker.enter_context(beside(tmp_path / "later" / "a"))

        def late(count: int) -> str:
            maker.close()
            return token(count)

        monkeypatch.setattr(scratch.secrets, "token_hex", late)
        with beside(tmp_path / "later" / "b") as folder:
            assert folder.is_dir()

    def test_without_locks_nothing_is_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(_descriptor: int, _how: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(scratch.fcntl, "flock", refused)
        (tmp_path / ".b.0123abcd.tmp").mkdir()
        with beside(tmp_path / "b") as folder:
            assert folder.is_dir()
        assert names(tmp_path) == [".b.0123abcd.tmp"]


class TestTemporaryFolder:
    def test_it_is_private_and_gone_afterwards(self, temporary: Path) -> None:
        with temporary_folder("link") as folder:
            assert folder.parent == temporary and folder.stat().st_mode & 0o777 == 0o700
        assert names(temporary) == []

    def test_those_of_dead_processes_go_and_those_of_living_ones_stay(self, temporary: Path) -> None:
        (temporary / "tvm-flow-shader.0123abcd").mkdir()
        (temporary / "tvm-flow-shader-x1y2z3_4").mkdir()
        with temporary_folder("link") as one, temporary_folder("arm-step") as other:
            assert names(temporary) == sorted([one.name, other.name, "tvm-flow-shader-x1y2z3_4"])


class TestNewDirectory:
    def test_a_killed_exchange_by_two_renames_gives_the_old_one_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a file system that cannot exchange; killed when neither has the name."""
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "old").write_text("old")
        monkeypatch.setattr(folders, "exchange", lambda _one, _other: False)
        if (child := os.fork()) == 0:
            rename = Path.rename

            def renamed(self: Path, target: Path) -> Path:
                if self.suffix == UNFINISHED:
                    os.kill(os.getpid(), signal.SIGKILL)
                return rename(self, target)

            Path.rename = renamed  # type: ignore[method-assign, assignment]
            with new_directory(tmp_path / "b") as folder:
                (folder / "new").write_text("new")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert "b" not in names(tmp_path)
        sweep(tmp_path)
        assert names(tmp_path) == ["b"] and names(tmp_path / "b") == ["old"]

    def test_what_others_put_there_stays(self, tmp_path: Path) -> None:
        old = tmp_path / "b"
        (old / "sub").mkdir(parents=True)
        for name in ("notes.txt", "step_7.onnx", "weights.bin", "sub/deep"):
            (old / name).write_text("old")
        (old / "link").symlink_to("nowhere")
        with new_directory(old) as folder:
            (folder / "weights.bin").write_text("new")
            keep_others(old, folder, lambda name: name.startswith("step_"))
        assert names(old) == ["link", "notes.txt", "sub", "weights.bin"] and names(old / "sub") == ["deep"]
        assert (old / "weights.bin").read_text() == "new" and str((old / "link").readlink()) == "nowhere"
        assert names(tmp_path) == ["b"]


class TestNaming:
    def test_an_error_without_a_name_or_of_a_temporary_file_names_the_output(self, tmp_path: Path) -> None:
        output, work = tmp_path / "out", tmp_path / "work"
        full = (errno.ENOSPC, "full")
        for named in ((), (str(work / "a" / "b"),), (str(tmp_path / "read"), None, str(work / "b"))):
            with pytest.raises(OSError, match="full") as caught, naming(output, work):
                raise OSError(*full, *named)
            assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(output))

    def test_other_errors_stay_as_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught, naming(tmp_path / "out", tmp_path / "work"):
            (tmp_path / "read").read_bytes()
        assert caught.value.filename == str(tmp_path / "read")
        with pytest.raises(ValueError, match="os error 28"), naming(tmp_path, tmp_path):
            raise ValueError("(os error 28)")

    def test_what_safetensors_says_of_the_system_is_an_error_of_the_system(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught, naming(tmp_path / "out", tmp_path):
            save_file({}, tmp_path / "absent" / "file")
        assert caught.value.filename == str(tmp_path / "out")
