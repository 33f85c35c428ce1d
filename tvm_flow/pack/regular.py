"""Reading a file of a bundle that nobody has verified yet: only a regular one, and only as long as it may be."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError

MANIFEST_MOST = 16 << 20
"""Bytes of a manifest: a hundred thousand files, a thousand times what a bundle has."""


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """``path`` opened for reading, and its size in bytes; neither a FIFO nor a device is waited for.

    Raises OSError when it cannot be opened, BundleError when it is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BundleError(f"{path}: expected a regular file, got another kind; copy the bundle again", Cause.DEVICE)
    with os.fdopen(descriptor, "rb") as stream:
        yield stream, status.st_size


def cause_of(error: OSError) -> Cause:
    """Of a file that cannot be read; NONE where only its words say it."""
    if isinstance(error, FileNotFoundError):
        return Cause.ABSENT
    return Cause.DEVICE if isinstance(error, IsADirectoryError) or error.errno == errno.ENXIO else Cause.NONE


def unreadable(path: Path, error: OSError) -> BundleError:
    """What to raise for a file of a bundle that cannot be read."""
    return BundleError(f"{path}: expected a readable file, got: {error}; copy the bundle again", cause_of(error))


def cause_of_size(expected: int, got: int) -> Cause:
    """Of a file that is not as long as it is said to be."""
    return Cause.TRUNCATED if got < expected else Cause.CHANGED


def read_regular(path: Path, most: int) -> bytes:
    """All of ``path``, whose size is looked at before memory is taken.

    Raises OSError when it cannot be read, BundleError when it is no regular file, longer than ``most`` bytes, or longer
    than memory.
    """
    with open_regular(path) as (stream, size):
        if size > most:
            raise BundleError(
                f"{path}: expected at most {most} bytes, got {size}; copy the bundle again", Cause.CHANGED
            )
        try:
            return stream.read(size)
        except MemoryError as error:
            raise BundleError(f"{path}: expected memory for its {size} bytes, got none; free memory") from error
