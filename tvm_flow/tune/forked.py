"""Processes that work for a while and never outlive what they work for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from tvm_flow.run.interrupt import deferred_interrupt


@contextmanager
def running(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Inside they run; whatever ends it ends them, also a Ctrl-C that comes while they are started."""
    try:
        with deferred_interrupt():
            for process in processes:
                process.start()
        yield
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
