"""A directory that appears whole under its name, or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tvm_flow.artifact import fsync, linked
from tvm_flow.scratch import ASIDE, beside, holding

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``target``; on success sync it and put it in the place of ``target``.

    On any exception, Ctrl-C included, the new directory is removed and ``target`` stays as it was. Where that is a
    link, what it names is replaced. Raises ConfigError for a link to itself, OSError that names ``target``.
    """
    target = linked(target)
    with beside(target) as temporary:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            if not path.is_symlink() and (path.is_file() or path.is_dir()):
                fsync(path)
        _put(temporary, target)
        fsync(target.parent)


def keep_others(old: Path, new: Path, own: Callable[[str], bool] = lambda _: False) -> None:
    """Give ``new`` what ``old`` holds besides names that are ``own`` or there already: what others put there.

    A file gets a second name where the file system can do that, so that ``old`` stays whole.
    """
    for path in old.iterdir() if old.is_dir() else ():
        copy = new / path.name
        if own(path.name) or os.path.lexists(copy):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, copy, symlinks=True, copy_function=_second_name)
        else:
            _second_name(path, copy)


def _second_name(path: Path | str, copy: Path | str) -> object:
    try:
        os.link(path, copy, follow_symlinks=False)
    except OSError:
        return shutil.copy2(path, copy, follow_symlinks=False)
    return copy


def _put(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; what was there ends up under ``new``'s name."""
    if not target.exists():
        new.rename(target)
    elif not exchange(new, target):
        aside = new.with_name(new.name + ASIDE)
        with holding(target):
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
