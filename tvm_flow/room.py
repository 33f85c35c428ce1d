"""Whether a command can write its output, asked before the work: names, permission and free space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tvm_flow.errors import ConfigError

AROUND = len("..01234567.tmp") + len("..stamp.json")
"""Bytes that temporary names and stamps put around a name."""


def expect_room(output: Path, size: int = 0) -> None:
    """Raise ConfigError when about ``size`` bytes cannot be written to ``output``, a file or a folder.

    What lies there does not count as room: it stays until it is replaced. The answer may change while a command works;
    this is to find out what is sure to fail after hours.
    """
    folder = next(folder for folder in output.absolute().parents if os.path.lexists(folder))
    if not folder.is_dir():
        raise _refused(output, f"{folder} is no folder")
    most = os.pathconf(folder, "PC_NAME_MAX")
    for part in output.absolute().relative_to(folder).parts:
        length = len(os.fsencode(part)) + AROUND
        if length > most:
            raise _refused(output, f"a name of {length - AROUND} bytes, of at most {most - AROUND}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(output, f"no permission to write in {folder}, or a read-only file system")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _refused(output, f"{_shown(free)} free in {folder}, of about {_shown(size)} that this takes")


def bytes_in(path: Path) -> int:
    """Of a file, or of all files in a folder; 0 for nothing."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else 0


def _refused(output: Path, reason: str) -> ConfigError:
    return ConfigError(f"{output}: expected to write here, got: {reason}; check path, permission and space")


def _shown(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
