"""Things that may crash, hang or print, tried in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_flow.shipped import is_checkout
from tvm_flow.sources import PACKAGE

PATIENCE = 120.0
"""Seconds: a first import reads gigabytes, and the runtime's part for Vulkan may have to be compiled."""


@dataclass(frozen=True)
class Tried:
    """``words``: what it printed, or in a line why it failed."""

    good: bool
    words: str


def try_python(code: str, *arguments: str) -> Tried:
    """``code`` in another Python, ``arguments`` in its sys.argv; nothing is imported from the working folder."""
    return try_command([sys.executable, "-P", "-c", code, *arguments])


def try_command(command: Sequence[str], patience: float = PATIENCE) -> Tried:
    """A program with no input; it finds this package as we did."""
    places = [str(PACKAGE.parent)] if is_checkout() else []
    places += filter(None, [os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **({"PYTHONPATH": os.pathsep.join(places)} if places else {})}
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=patience,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Tried(False, f"no answer in {patience:g} s")
    except OSError as error:
        return Tried(False, f"cannot be started: {error.strerror}")
    if done.returncode < 0:
        return Tried(False, f"killed by {signal.Signals(-done.returncode).name}")
    if done.returncode > 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Tried(False, said[-1][:300])
    return Tried(True, done.stdout.strip())
