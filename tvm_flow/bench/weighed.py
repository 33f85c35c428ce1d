"""``python -m tvm_flow.bench.weighed FILE ARGUMENTS``: one command of ``tvm-flow``, its peak memory written to FILE.

What the parent learns from wait4 counts the parent's own pages too, because a process starts as a copy of it; the
kernel's high-water mark in /proc/self/status starts anew with the program.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_mb() -> float:
    """The largest resident set of this process so far, in 10^6 bytes; mapped files count where they were touched."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "every Linux kernel of the last fifteen years writes it"
    return int(found[1]) * 1024 / 1e6


def main(arguments: list[str]) -> int:
    """The command's exit code."""
    from tvm_flow.cli import main as command

    file, *rest = arguments
    code = command(rest)
    Path(file).write_text(str(peak_mb()))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
