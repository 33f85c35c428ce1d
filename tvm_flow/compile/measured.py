"""Time and memory of a compilation's parts, for the log: a VAE takes minutes and gigabytes, and one asks where."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Log how long the block took, and the most memory that this process has held until its end."""
    start = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux counts in kilobytes
    _log.info("%s: %.1f s, peak memory of the process %.2f GB", what, time.monotonic() - start, peak)
