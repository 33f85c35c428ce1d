"""scripts/setup says what it waits for and what it does, and nothing when all is current."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INSTALLING = "setup: installing Python packages into .venv; the first time that takes minutes and gigabytes"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script beside a Python of a .venv that only writes down how it is called."""
    (tmp_path / "scripts").mkdir()
    shutil.copy2(ROOT / "scripts" / "setup", tmp_path / "scripts" / "setup")
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n')
    python.chmod(0o755)
    return tmp_path


def start(checkout: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([str(checkout / "scripts" / "setup")], stderr=subprocess.PIPE, text=True)


def test_it_says_that_it_installs_and_then_nothing(checkout: Path) -> None:
    with start(checkout) as process:
        assert process.communicate()[1].splitlines() == [INSTALLING] and process.returncode == 0
    assert "-m pip install --quiet" in (checkout / "calls").read_text()
    with start(checkout) as process:
        assert process.communicate()[1] == "" and process.returncode == 0


def test_it_says_that_it_waits(checkout: Path) -> None:
    files = [checkout / name for name in ("pyproject.toml", "scripts/setup")]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    (checkout / ".venv" / "installed-").write_text(wanted + "\n")
    with (checkout / "scripts" / "setup").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with start(checkout) as process:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said == "setup: waiting for another script of this folder, which is installing\n"
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.communicate()[1] == "" and process.returncode == 0
