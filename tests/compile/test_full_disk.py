"""A disk that is really full: a small one, mounted for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_flow.export import Exported


def test_a_full_disk_is_one_line_and_leaves_nothing(exported: Exported, tmp_path: Path) -> None:
    """Said before anything begins: LLVM would end the process when it cannot write an object file."""
    (tmp_path / "small").mkdir()
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    command = f"{sys.executable} -m tvm_flow.cli compile --export {exported.folder} --output small/b"
    script = f"mount -t tmpfs -o size=100k t small || exit 77; {command}; echo exit $?; ls -A small"
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this container mounts nothing")
    last = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert done.stdout.splitlines() == ["exit 2"], done.stdout
    assert last.startswith("tvm-flow: small/b: ") and "space" in last, done.stderr
