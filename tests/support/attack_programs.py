"""Programs that attack the loader, built under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from support import toy_bundle
from tvm_flow.toolchain.runtime_library import runtime_sources

ENVIRONMENT = {
    **os.environ,
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
WATCHED = ("-O1", "-g", "-fsanitize=address,undefined")
Attack = Callable[..., str]
"""Runs a program with arguments; its output. Fails on a crash, a sanitizer's report or a leak."""


def watched_runtime(folder: Path) -> Path:
    """The runtime as one object under the sanitizers, compiled once for all programs of ``folder``."""
    path = folder / "runtime.o"
    if not path.exists():
        toy_bundle.compile_c(path, runtime_sources(), *WATCHED, "-r", "-nostdlib")
    return path


def attack_with(folder: Path, name: str, *arguments: str | Path) -> str:
    """Compile the C file ``name`` of tests/attacks with the runtime, once a folder, and run it."""
    program = folder / name
    if not program.exists():
        source = Path(__file__).parents[1] / "attacks" / f"{name}.c"
        toy_bundle.compile_c(program, [source, watched_runtime(folder)], *WATCHED)
    command = [str(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-4000:] + result.stdout
    return result.stdout
