"""Whether torch unpickles a file at all, tried where a hostile one can do no harm.

With ``weights_only`` nothing of a pickle is executed, yet a few hundred bytes of it may ask for more time and memory
than there is: torch prints what it refuses, which a pickle can nest without bound, and searches that text in time that
grows with the square of a name. So a fork of this process reads the file first, with limits of its own.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import stat
import time
from pathlib import Path

import torch

SECONDS = 2.0
"""Of the processor, for what a pickle of names and shapes asks for; milliseconds are usual."""
BYTES_PER_SECOND = 50e6
"""Of the file, beyond that: a slow disk's."""
MEMORY = 1 << 30
"""Bytes beyond two copies of the file."""
IDLE = 60.0
"""Times the processor's seconds: how long it may take on a machine that has others to serve."""
_MESSAGE = 4096


def why_not_unpickled(path: Path, mmap: bool) -> str:
    """What torch says of ``path`` where it does not load it, at most 4096 bytes; empty where it does.

    A file that takes more time or memory than its size explains is one that torch does not load.
    """
    try:
        status = path.stat()
    except OSError as error:
        return str(error)
    if not stat.S_ISREG(status.st_mode):  # a pipe gives its bytes once, or never
        return "no regular file"
    size = status.st_size
    seconds = SECONDS + size / BYTES_PER_SECOND
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _try(path, mmap, writing, seconds, 2 * size + MEMORY)
    os.close(writing)
    try:
        said = _said(reading, time.monotonic() + seconds * IDLE)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not said:
        return f"one that takes more than {seconds:.0f} s to load, or ends the process that loads it"
    return said[1:].decode(errors="replace")


def _said(pipe: int, deadline: float) -> bytes | None:
    """All that comes through ``pipe``; None where it does not end in time."""
    said = b""
    while select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0]:
        part = os.read(pipe, _MESSAGE)
        if not part:
            return said
        said += part
    return None


def _try(path: Path, mmap: bool, pipe: int, seconds: float, memory: int) -> None:
    """In the fork: load, say a byte and why not, and end without what the process it came from has registered."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds),) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        why = ""
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except MemoryError:
            why = "one that takes more memory than its size explains"
        except Exception as error:  # a damaged pickle fails in whatever its next word asks for
            why = str(error)[:_MESSAGE] or type(error).__name__
        os.write(pipe, b"." + why.encode(errors="replace")[:_MESSAGE])
    finally:
        os._exit(0)
