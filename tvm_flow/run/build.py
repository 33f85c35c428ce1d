"""Compiling the C runtime with the compiler that pip installs, once for each version of its sources."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tvm_flow.artifact import atomic_path
from tvm_flow.errors import BuildError

RUNTIME = Path(__file__).resolve().parent.parent / "runtime"
"""The folder with the runtime's sources and headers."""

# No contraction: the sampler must give the same bits on machines with and without fused multiply-add.
C_FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow"),
)
LINK_FLAGS = ("-shared", "-s", "-lm", "-lpthread", "-ldl")


def host_triple() -> str:
    """This machine, with the oldest glibc that the runtime supports."""
    return f"{platform.machine()}-linux-gnu.2.28"


def runtime_sources() -> list[Path]:
    """The C files of the runtime, in a fixed order."""
    return sorted((RUNTIME / "src").glob("*.c"))


def cache_directory() -> Path:
    """TVM_FLOW_CACHE, else tvm-flow under the user's XDG cache."""
    if override := os.environ.get("TVM_FLOW_CACHE"):
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm-flow"


def build_runtime(triple: str | None = None) -> Path:
    """The runtime as a shared library for ``triple`` (zig's spelling; this machine by default).

    Compiles it at the first call and keeps it in the cache directory. Raises BuildError with the compiler's
    output.
    """
    triple = triple or host_triple()
    path = cache_directory() / f"runtime-{_key(triple)}" / "libtvm_flow.so"
    if path.exists():
        return path
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", triple]
    with atomic_path(path) as temporary:
        sources = [str(source) for source in runtime_sources()]
        command = [*compiler, *C_FLAGS, "-o", str(temporary), *sources, *LINK_FLAGS]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BuildError(
                f"runtime for {triple}: expected the compiler to succeed, got exit {result.returncode}:\n"
                f"{result.stderr[-4000:]}\nreinstall ziglang, or name another target"
            )
    return path


def _key(triple: str) -> str:
    try:
        compiler = version("ziglang")
    except PackageNotFoundError as error:
        raise BuildError("ziglang: expected the C compiler that pip installs, got none; pip install ziglang") from error
    digest = hashlib.sha256(repr((compiler, triple, C_FLAGS, LINK_FLAGS)).encode())
    for path in sorted([*RUNTIME.rglob("*.c"), *RUNTIME.rglob("*.h")]):
        digest.update(f"{path.relative_to(RUNTIME)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
