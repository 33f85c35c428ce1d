"""The store of measurements: a folder of files that are only ever appended to, one file for each writer.

    {"sha256":"<of record, canonical>","record":{...}}\n

A writer makes a file of its own, writes each record as one line and flushes it to disk before it goes on: a writer
that is killed loses at most the line it was writing. Readers merge all files. A line that is not whole, was damaged, or
holds what no measurement can hold is skipped with its reason; it never ends the reading of a file, and never counts.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tvm_flow.artifact import linked, write_bytes
from tvm_flow.errors import ConfigError
from tvm_flow.scratch import naming, sweep
from tvm_flow.tune.entries import Entry

SUFFIX = ".jsonl"
LONGEST = 1 << 20
"""Bytes of a line: a longer one is no record, and is skipped without being parsed."""


@dataclass(frozen=True)
class Skipped:
    """A line that does not count."""

    path: Path
    line: int
    """From 1."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name}, line {self.line}: {self.reason}"


@dataclass(frozen=True)
class Found:
    """What a store holds: records in the order of files and lines, each once, and the lines that do not count."""

    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...] = ()


def encode(entry: Entry) -> bytes:
    """The line of ``entry``."""
    record = _canonical(entry.to_json())
    return f'{{"sha256":"{hashlib.sha256(record.encode()).hexdigest()}","record":{record}}}\n'.encode()


def decode(line: bytes) -> Entry:
    """The record of a line without its end; raises ConfigError with the reason why it does not count."""
    if not line.strip():
        raise ConfigError("it is blank")
    if b"\0" in line:
        raise ConfigError("it holds NUL bytes, as a page that never reached the disk does")
    if len(line) > LONGEST:
        raise ConfigError(f"it is longer than {LONGEST} bytes")
    try:
        values = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"it is no JSON, or not whole: {error}") from None
    if not isinstance(values, dict) or set(values) != {"sha256", "record"}:
        raise ConfigError("it is no record of this project")
    try:
        right = hashlib.sha256(_canonical(values["record"]).encode()).hexdigest() == values["sha256"]
    except (ValueError, RecursionError):
        right = False
    if not right:
        raise ConfigError("its checksum is not that of its record: it was changed after it was written")
    return Entry.from_json(values["record"])


def read_ledger(*places: Path) -> Found:
    """All records of the folders and files ``places``; one that is not there holds none.

    Raises OSError when a file that is there cannot be read.
    """
    entries: dict[bytes, Entry] = {}
    skipped: list[Skipped] = []
    for path in _files(places):
        for number, line, whole in _lines(path):
            try:
                if not whole:
                    raise ConfigError("it has no end: its writer was interrupted, or is writing it")
                entries.setdefault(encode(entry := decode(line)), entry)
            except ConfigError as error:
                skipped.append(Skipped(path, number, str(error)))
    return Found(tuple(entries.values()), tuple(skipped))


class Writer:
    """Appends records to a new file of a store; a context manager. The file is made with its first record.

    What killed processes left unfinished in the store is removed at the beginning.
    """

    def __init__(self, folder: Path) -> None:
        self.path = _new_path(folder)
        self._file: int | None = None

    def append(self, entry: Entry) -> None:
        """Write ``entry`` and wait until the disk has it; raises OSError, with nothing of it in the file."""
        if self._file is None:
            self._file = _create(self.path)
        line, before = encode(entry), os.fstat(self._file).st_size
        try:
            with naming(self.path, self.path):
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, before)  # what is there of the line must not join the next one
            if before == 0:
                self.path.unlink()
                self.close()
            raise

    def close(self) -> None:
        """Give the file up."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Writer:
        sweep(self.path.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def append_all(folder: Path, entries: Iterable[Entry]) -> Path:
    """Write ``entries`` as one more file of the store ``folder``, whole or not at all; returns its path."""
    path = _new_path(folder)
    write_bytes(path, b"".join(map(encode, entries)))
    return path


def in_use(path: Path) -> bool:
    """Whether a writer that lives holds ``path``."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True


def _new_path(folder: Path) -> Path:
    """In ``folder``, or what that names as a link."""
    return linked(folder) / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"


def _create(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return file


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        yield from sorted(place.glob(f"[!.]*{SUFFIX}")) if place.is_dir() else [place] if place.exists() else []


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(number, line, whether it has an end); a blank end of file is no line."""
    data = path.read_bytes()
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        yield number, line, True
    if rest:
        yield len(lines) + 1, rest, False


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
