"""The hidden folder that a compilation works in, beside its output; what dead processes left is removed.

Beside the output, so that its weights are written once and then only get another name. The folder holds a lock that
ends with the process, however it ends: a folder whose lock is free is nobody's.
"""

from __future__ import annotations

import fcntl
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"


@contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """An empty folder beside ``output``, removed at the end; those of dead processes are removed first."""
    beside = next(folder for folder in output.absolute().parents if folder.is_dir())
    _sweep(beside, rf"\.{re.escape(output.name)}\.[0-9a-f]{{8}}\.work")
    folder = beside / f".{output.name}.{secrets.token_hex(4)}.work"
    folder.mkdir()
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_unfinished(output: Path) -> None:
    """Remove what a killed process left of ``output`` half-written (see `tvm_flow.pack.replace`).

    Only for who holds ``output`` alone (`tvm_flow.artifact.exclusive`).
    """
    if output.parent.is_dir():
        for path in output.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(output.name)}\.[0-9a-f]{{8}}\.tmp(\.old)?", path.name) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)


def _sweep(beside: Path, pattern: str) -> None:
    for folder in beside.iterdir():
        if re.fullmatch(pattern, folder.name) and _is_dead(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_dead(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:
        return False  # without a lock yet: somebody starts just now, or it is not ours
