"""The ``tvm-flow`` command: parses arguments and calls one function of the Python API.

Exit codes: 0 done, 2 bad input, a failed check or a file that cannot be used (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tvm_flow.cli.parser import make_parser
from tvm_flow.cli.verbose import logged
from tvm_flow.errors import InterruptedCommand, TvmFlowError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        with logged(arguments.verbose):
            arguments.run(arguments)
        return 0
    except InterruptedCommand as error:
        message, code = str(error), INTERRUPTED
    except KeyboardInterrupt:
        message, code = "interrupted; nothing half-written is left, run the same command again", INTERRUPTED
    except TvmFlowError as error:
        message, code = f"{error}{f' [{error.cause.words}]' if error.cause else ''}", 2
    except OSError as error:  # a full disk, a folder without permission, a path through a file
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        message, code = f"{where}expected to read or write, got: {error.strerror}; check path, permission and space", 2
    return _complain(message, code)


def _complain(message: str, code: int) -> int:
    fresh = "\n" if code == INTERRUPTED else ""  # a progress bar, or the terminal's ^C, holds the line
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(message.split()))
    print(f"{fresh}tvm-flow: {shown}", file=sys.stderr)
    return code
