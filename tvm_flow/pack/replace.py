"""A directory that appears whole under its name, or not at all."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tvm_flow.artifact import linked

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``target``; on success sync it and put it in the place of ``target``.

    On any exception, Ctrl-C included, the new directory is removed and ``target`` stays as it was. Where that is a
    link, what it names is replaced. Raises ConfigError for a link to itself.
    """
    target = linked(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            fsync(path)
        _put(temporary, target)
        fsync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; what was there ends up under ``new``'s name."""
    if not target.exists():
        new.rename(target)
    elif not exchange(new, target):
        aside = new.with_name(new.name + ".old")
        target.rename(aside)
        try:
            new.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        aside.rename(new)


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, so that no reader finds neither; False where the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
