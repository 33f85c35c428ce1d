"""The runtime under a sanitizer as one object, for all programs that tests link with it.

gcc takes five seconds for it, and a tenth of that for a program of a test; so it is kept in the cache directory, by all
that gcc sees of it.
"""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from support import toy_bundle
from tvm_flow.artifact import atomic_path
from tvm_flow.toolchain.runtime_library import RUNTIME, cache_directory, runtime_sources

SANITIZERS = {"address": "-fsanitize=address,undefined", "thread": "-fsanitize=thread"}
OPTIMIZED = ("-O1", "-g")


@cache
def sanitized_runtime(sanitizer: str) -> Path:
    """The object of all `runtime_sources`; ``sanitizer`` is a flag of `SANITIZERS`."""
    flags = (*OPTIMIZED, sanitizer, "-r", "-nostdlib")
    version = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(repr((version, flags, str(RUNTIME))).encode())
    for path in sorted([*runtime_sources(), *(RUNTIME / "include").glob("*.h"), *(RUNTIME / "src").glob("*.h")]):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    kept = cache_directory() / f"sanitized-{digest.hexdigest()[:16]}" / "runtime.o"
    if not kept.exists():
        with atomic_path(kept) as temporary:
            toy_bundle.compile_c(temporary, runtime_sources(), *flags)
    return kept
