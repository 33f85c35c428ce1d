"""The ``tvm-flow`` command: parses arguments and calls one function of the Python API.

Exit codes: 0 done, 2 bad input or a failed check (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tvm_flow.cli.parser import make_parser
from tvm_flow.errors import InterruptedCommand, TvmFlowError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except InterruptedCommand as error:
        return _complain(str(error), 130)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing half-written is left, run the same command again", 130)
    except TvmFlowError as error:
        return _complain(str(error), 2)
    return 0


def _complain(message: str, code: int) -> int:
    print(f"tvm-flow: {' '.join(message.split())}", file=sys.stderr)
    return code
