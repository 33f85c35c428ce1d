"""Programs that attack the loader, built under the address and undefined-behaviour sanitizers, or that of threads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from support import toy_bundle
from support.sanitized import OPTIMIZED, SANITIZERS, sanitized_runtime
from tvm_flow.toolchain.runtime_library import RUNTIME, signature_sources

ENVIRONMENT = {
    **os.environ,
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": f"halt_on_error=1:suppressions={toy_bundle.SOURCES / 'tsan.supp'}",
}
SIGNATURE_HEADERS = f"-I{RUNTIME / 'signature'}"
WATCHED = (*OPTIMIZED, SANITIZERS["address"])
Attack = Callable[..., str]
"""Runs a program with arguments; its output. Fails on a crash, a sanitizer's report or a leak."""


def watched_signature(
    folder: Path, curve: str = "-fno-sanitize=undefined", sanitizer: str = SANITIZERS["address"]
) -> list[Path]:
    """Objects of the part that checks signatures, compiled once a ``folder``, Monocypher with the flag ``curve``.

    Of it gcc optimizes for minutes what both sanitizers add: one of them, or -O0, which runs for thrice as long.
    """
    objects, flags = [], (*OPTIMIZED, sanitizer)
    for source in signature_sources():
        objects.append(folder / f"{source.stem}.o")
        slow = [curve] if source.stem == "monocypher" else []
        if not objects[-1].exists():
            toy_bundle.compile_c(objects[-1], [source], *flags, *slow, SIGNATURE_HEADERS, "-r", "-nostdlib")
    return objects


def attack_with(folder: Path, name: str, *arguments: str | Path, sanitizer: str = SANITIZERS["address"]) -> str:
    """Compile the C file ``name`` of tests/attacks with the runtime, once a folder, and run it.

    A folder is of one ``sanitizer``.
    """
    program = folder / name
    if not program.exists():
        source = Path(__file__).parents[1] / "attacks" / f"{name}.c"
        signed = "tvm_flow_signature.h" in source.read_text()
        parts = watched_signature(folder, sanitizer=sanitizer) if signed else []
        sources = [source, sanitized_runtime(sanitizer), *parts]
        toy_bundle.compile_c(program, sources, *OPTIMIZED, sanitizer, SIGNATURE_HEADERS)
    command = [str(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-4000:] + result.stdout
    return result.stdout
