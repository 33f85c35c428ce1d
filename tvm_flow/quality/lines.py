"""A file of JSON lines that grows: appends are whole or do not count, and what is there is kept.

A batch of lines is one write to the end of the file, flushed to disk. A process that dies in it leaves a tail without a
newline at most, which readers pass over and the next writer cuts off. One process writes at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tvm_flow.artifact import exclusive
from tvm_flow.errors import ConfigError
from tvm_flow.scratch import naming

Line = Mapping[str, Any]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in ``path``, none when it is absent, without a torn tail.

    Raises ConfigError naming the file and the number of a line that is no JSON object.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    found = []
    for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ConfigError(
                f"{path}: line {number}: expected a JSON object, got {line[:60]!r}; delete that line, or the file"
            )
        found.append(value)
    return found


class Appender:
    """Adds lines to the end of the open file ``path``."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def append(self, lines: Sequence[Line]) -> None:
        """Write ``lines``, all of them before this returns; raises OSError, with none of them in the file."""
        left = memoryview("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode())
        before = os.fstat(self._descriptor).st_size
        try:
            with naming(self._path, self._path):
                while left:
                    left = left[os.write(self._descriptor, left) :]
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise


@contextmanager
def appending(path: Path) -> Iterator[Appender]:
    """Write to ``path`` alone, from behind its last whole line; raises ConfigError when another process writes it."""
    with exclusive(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            whole, newline, _ = path.read_bytes().rpartition(b"\n")
            os.ftruncate(descriptor, len(whole) + len(newline))
            yield Appender(path, descriptor)
        finally:
            os.close(descriptor)
