"""Compiling the C runtime with the compiler that pip installs, once for each version of its sources."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from tvm_flow.artifact import atomic_path, make_executable
from tvm_flow.toolchain.versions import zig_version
from tvm_flow.toolchain.zig import PAGES, zig_cc

RUNTIME = Path(__file__).resolve().parent.parent / "runtime"
"""The folder with the runtime's sources and headers."""

# No contraction: the sampler must give the same bits on machines with and without fused multiply-add.
C_FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow"),
    # Nothing unwinds through C: a ninth of the library otherwise.
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
)
SMALLEST = ("-Os", "-Xclang", "-Oz", "-fno-math-errno")
"""zig takes -Oz for -Os unless it is handed on; a square root that never fails needs no errno."""
# One object, whose functions the program's own link keeps or drops one by one.
STATIC_FLAGS = ("-DTVM_FLOW_NO_DLOPEN", "-ffunction-sections", "-fdata-sections", "-g0", "-r")
SONAME = "libtvm_flow.so.0"
"""0: the major version, as CMakeLists.txt has it."""
# Optimized as a whole: 3 % of the library. The static object is left to the link of the program.
_SHARED = ("-shared", "-s", "-flto", PAGES, "-Wl,-Bsymbolic", "-Wl,--hash-style=gnu")
LINK_FLAGS = (*_SHARED, f"-Wl,-soname,{SONAME}", "-lm", "-lpthread", "-ldl")
_CHECKER = RUNTIME / "examples" / "check_bundle.c"
_CHECKER_FLAGS = ("-std=c11", "-O2", "-s", "-Wall", "-Wextra", "-Werror", PAGES, "-Wl,-rpath,$ORIGIN")
_log = logging.getLogger(__name__)


def host_triple() -> str:
    """This machine, with the oldest glibc that the runtime supports."""
    return f"{platform.machine()}-linux-gnu.2.28"


def runtime_sources() -> list[Path]:
    """The C files of the runtime, in a fixed order."""
    return sorted((RUNTIME / "src").glob("*.c"))


def signature_sources() -> list[Path]:
    """The C files of the optional part that checks signatures."""
    return [*sorted((RUNTIME / "signature").glob("*.c")), RUNTIME / "signature" / "monocypher" / "monocypher.c"]


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
    return _cached("runtime", "libtvm_flow.so", triple, C_FLAGS, runtime_sources(), LINK_FLAGS)


def build_static_runtime(triple: str) -> Path:
    """The runtime without dlopen as one object file for an archive; otherwise as `build_runtime`.

    The object holds structures of the C library that it was compiled for, such as its mutex: musl's and glibc's are not
    interchangeable.
    """
    return _cached("static", "tvm_flow.o", triple, (*C_FLAGS, *STATIC_FLAGS), runtime_sources())


def build_device(
    name: str,
    folder: Path,
    triple: str | None = None,
    defines: Sequence[str] = (),
    shared: Sequence[Path] = (),
) -> Path:
    """A backend's part of the runtime: the C files of ``folder``, which loads what it needs; as `build_runtime`.

    It is optimized for size: a device waits for its kernels. ``defines`` are NAME=VALUE of the preprocessor; ``shared``
    are C files of another backend's part that this one is made of, too.
    """
    folders = dict.fromkeys(path.parent for path in shared)
    includes = (f"-I{path}" for path in (RUNTIME / "include", folder, *folders))
    flags = (*C_FLAGS, *SMALLEST, *includes, *(f"-D{define}" for define in defines))
    sources, library = [*sorted(folder.glob("*.c")), *shared], f"libtvm_flow_device_{name}.so"
    return _cached("device", library, triple or host_triple(), flags, sources, (*_SHARED, "-ldl"))


def build_signature_part(triple: str) -> Path:
    """The part that checks signatures as a library of its own, for size; as `build_device`."""
    flags = (*C_FLAGS, *SMALLEST, "-ffunction-sections", f"-I{RUNTIME / 'include'}", "-Wl,--gc-sections")
    return _cached("signature", "libtvm_flow_signature.so", triple, flags, signature_sources(), _SHARED)


def build_checker(triple: str) -> Path:
    """examples/check_bundle.c for ``triple``, as `build_runtime`; it finds `SONAME` in the folder where it lies."""
    inputs = (f"-I{RUNTIME / 'include'}", _CHECKER, build_runtime(triple))
    path = _cached("check", "check_bundle", triple, _CHECKER_FLAGS, inputs, ("-ldl",))
    make_executable(path)
    return path


def _cached(
    kind: str, name: str, triple: str, flags: Sequence[str], inputs: Sequence[str | Path], libraries: Sequence[str] = ()
) -> Path:
    path = cache_directory() / f"{kind}-{_key(triple, (*flags, *libraries), inputs)}" / name
    if path.exists():
        _log.info("runtime for %s: from the cache, %s", triple, path)
        return path
    with atomic_path(path) as temporary:
        arguments = ("-o", str(temporary), *flags, *map(str, inputs), *libraries)
        zig_cc(arguments, f"runtime {name}", triple, "reinstall ziglang, or name another target")
    _log.info("runtime for %s: compiled into %s", triple, path)
    return path


def _key(triple: str, flags: Sequence[str], inputs: Sequence[str | Path] = ()) -> str:
    """Of all that the compiler sees: the runtime, and what lies beside the inputs."""
    digest = hashlib.sha256(repr((zig_version(), triple, *flags)).encode())
    folders = {RUNTIME / "include", RUNTIME / "src", *(path.parent for path in inputs if isinstance(path, Path))}
    for path in sorted({path for folder in folders for path in folder.glob("*.[ch]")}):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
