"""Folders for what is not finished, each held by its process: what a killed one leaves, the next one removes.

    .NAME.0123abcd.tmp               beside an output NAME: what becomes it
    .NAME.0123abcd.work              beside it too: what it is made from
    $TMPDIR/tvm-flow-WHAT.0123abcd   what nobody keeps

A process holds its folders locked (flock), and a lock ends with its process, however that ends. So a folder with such a
name whose lock is free is nobody's; a number of a process in the name would say nothing to another container. It is a
folder even for one file, since linkers replace the file that they are told to write, and a lock goes with the old one.
Where a file system has no locks nothing is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED, WORK = ".tmp", ".work"
ASIDE = ".old"
"""Behind the name of an unfinished folder: what it replaces, for the moment of two renames (`tvm_flow.folders`)."""
_RANDOM = "[0-9a-f]{8}"
_BESIDE = re.compile(rf"\.(?P<output>.+)\.{_RANDOM}({re.escape(UNFINISHED)}({re.escape(ASIDE)})?|{re.escape(WORK)})")
_TEMPORARY = re.compile(rf"tvm-flow-[a-z-]+\.{_RANDOM}")
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EINVAL)


@contextmanager
def beside(output: Path, kind: str = UNFINISHED) -> Iterator[Path]:
    """An empty folder beside ``output``, removed at the end; those of dead processes there are removed first.

    An OSError names ``output``, one of what is done inside, too (`naming`). Folders above that are not there are made,
    and go again where they stay empty.
    """
    sweep(output.parent)
    with emptied(output):
        with naming(output, output.parent):
            made = _made(output.parent, f".{output.name}.", kind, 0o777)
        with _held(*made) as folder, naming(output, folder):
            yield folder


@contextmanager
def emptied(output: Path) -> Iterator[None]:
    """Folders above ``output`` that are not there are gone again afterwards, where they were made and stay empty."""
    absent = [folder for folder in output.parents if not folder.exists()]
    try:
        yield
    finally:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """An empty folder of this user alone, removed at the end; those of dead processes are removed first.

    ``what`` is of small letters and dashes.
    """
    place = Path(tempfile.gettempdir())
    for path in _named(place, _TEMPORARY):
        _remove_dead(path)
    with _held(*_made(place, f"tvm-flow-{what}.", "", 0o700)) as folder:
        yield folder


def sweep(place: Path) -> None:
    """Remove what dead processes left in ``place``, of whatever output; an output that one had put aside comes back."""
    for path in _named(place, _BESIDE):
        found = _BESIDE.fullmatch(path.name)
        output = place / found["output"] if found and path.name.endswith(ASIDE) else None
        _remove_dead(path, output)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Lock ``folder``, whatever its name becomes; nothing where that cannot be done."""
    descriptor = None
    with suppress(OSError):
        descriptor = _locked(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def naming(output: Path, work: Path) -> Iterator[None]:
    """An error of the system inside names ``output`` where it names nothing, or only what lies in ``work``.

    What safetensors raises is of a class of its own, and has the system's number in its words.
    """
    try:
        yield
    except OSError as error:
        named = [name for name in (error.filename2, error.filename) if isinstance(name, str | bytes | os.PathLike)]
        if error.errno is None or (named and work not in Path(os.fsdecode(named[0])).parents):
            raise
        raise OSError(error.errno, error.strerror, str(output)) from error
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if type(error).__name__ != "SafetensorError" or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(output)) from error


def _named(place: Path, pattern: re.Pattern[str]) -> list[Path]:
    with suppress(OSError), os.scandir(place) as entries:
        return sorted(Path(entry) for entry in entries if pattern.fullmatch(entry.name))
    return []


def _remove_dead(folder: Path, output: Path | None = None) -> None:
    """Unless a process holds it, or it is no folder of ours; it becomes ``output`` again where that is absent."""
    with suppress(OSError):
        descriptor = _locked(folder)
        try:
            if output is not None and not os.path.lexists(output):
                folder.rename(output)
            else:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


@contextmanager
def _held(folder: Path, descriptor: int | None) -> Iterator[Path]:
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _made(place: Path, before: str, after: str, mode: int) -> tuple[Path, int | None]:
    """A new folder, and what holds its lock; None on a file system without locks.

    ``place`` is made where it is absent, also where another process that had made it has just removed it.
    """
    while True:
        folder = place / f"{before}{secrets.token_hex(4)}{after}"
        folder.mkdir(mode, parents=True)
        try:
            descriptor = _locked(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # it was swept before it was locked
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return folder, None
            folder.rmdir()
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return folder, descriptor
        os.close(descriptor)


def _locked(folder: Path) -> int:
    """A descriptor that holds the lock of ``folder``; raises BlockingIOError where another one does, and OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
