"""Work folders beside an output: gone after any end, and those of dead processes after the next start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_flow.compile.workspace import sweep_unfinished, work_folder
from tvm_flow.export import Exported

HOLD = "import sys, pathlib, time; from tvm_flow.compile.workspace import work_folder\n"
HOLD += "with work_folder(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def holder(output: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_it_is_beside_the_output_and_gone_afterwards(tmp_path: Path) -> None:
    with work_folder(tmp_path / "later" / "b") as folder:
        assert folder.parent == tmp_path, "the first folder that is there"
    with pytest.raises(KeyboardInterrupt), work_folder(tmp_path / "b") as folder:
        (folder / "weights.bin").write_bytes(bytes(9))
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed_and_a_living_ones_stays(tmp_path: Path) -> None:
    dead, alive = holder(tmp_path / "b"), holder(tmp_path / "b")
    assert len(names(tmp_path)) == 2
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    with work_folder(tmp_path / "b") as folder:
        assert len(names(tmp_path)) == 2 and folder.name in names(tmp_path)
    assert len(names(tmp_path)) == 1
    alive.kill()
    alive.communicate()
    with work_folder(tmp_path / "other"):
        assert len(names(tmp_path)) == 2, "another output's is not looked at"
    with work_folder(tmp_path / "b"):
        assert len(names(tmp_path)) == 1


def test_half_written_bundles_are_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = [".b.lock", ".b.notes.tmp", ".bb.0123abcd.tmp", "b"]
    for name in (".b.0123abcd.tmp", ".b.0123abcd.tmp.old", *kept):
        (tmp_path / name).mkdir()
    sweep_unfinished(tmp_path / "b")
    sweep_unfinished(tmp_path / "absent" / "b")
    assert names(tmp_path) == kept


def test_a_full_disk_is_one_line_and_leaves_nothing(exported: Exported, tmp_path: Path) -> None:
    """LLVM would end the process when it cannot write an object file."""
    mounted = "mount -t tmpfs -o size=100k t small"
    (tmp_path / "small").mkdir()
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    command = f"{sys.executable} -m tvm_flow.cli compile --export {exported.folder} --output small/b"
    script = f"{mounted} || exit 77; {command}; echo exit $?; ls -A small"
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this container mounts nothing")
    last = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert done.stdout.splitlines() in (["exit 2", ".b.lock"], ["exit 2"]), done.stdout
    assert last.startswith("tvm-flow: ") and ("No space left" in last or "space" in last), done.stderr
