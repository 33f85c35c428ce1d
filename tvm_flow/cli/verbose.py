"""What ``-v`` shows: the one place that configures logging, for the time of one command.

Modules log to ``logging.getLogger(__name__)``: what a stage decides at INFO, how it called the C compiler at DEBUG.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_PACKAGE = "tvm_flow"


@contextmanager
def logged(verbosity: int) -> Iterator[None]:
    """Write the package's log to stderr: nothing of it for 0, decisions for 1, command lines too for 2 and more."""
    logger, handler, before = logging.getLogger(_PACKAGE), _BesideBars(), logging.getLogger(_PACKAGE).level
    logger.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _BesideBars(logging.Handler):
    """Takes progress bars off the line that it writes, and draws them again below."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # here, so that --help does not wait for it

        module = record.name.removeprefix(f"{_PACKAGE}.")
        tqdm.write(f"{module}: {record.getMessage()}", file=sys.stderr)
