"""Full disks, SIGKILL, two processes on one output and outputs that are links, at commands that write files.

A few writes of each of the quick commands; all writes of all: ``scripts/broken_writes``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tvm_flow.shipped import shipped_folder

MOST = 3
QUICK = ("merge", "export", "key", "merge records")


@cache
def counts() -> dict[str, dict[str, int]]:
    """Of one run for all commands."""
    tests = Path(__file__).parents[1]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(shipped_folder("calibration").parent)])}
    command = [sys.executable, "-m", "support.broken_writes", "--most", str(MOST), "--stages", *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, env=given, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("command", QUICK)
def test_a_command_leaves_what_was_there_or_the_whole_new_output(command: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc for a library that makes writes fail")
    found = counts()[command]
    assert found["tried"] == MOST <= found["writes"], "fewer would mean that writes are not seen"
