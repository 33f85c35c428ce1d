"""Kernels and plan to one shared library, by the C compiler that pip installs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tvm_flow.artifact import atomic_path
from tvm_flow.errors import BuildError

INCLUDE = Path(__file__).resolve().parent.parent / "runtime" / "include"
# The descriptor is the only name that leaves the library: two libraries in one process must not see each other's.
_EXPORTS = "{ global: tvm_flow_library; local: *; };\n"
_FLAGS = ("-std=c11", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-shared", "-s")


def link_library(
    objects: Sequence[Path], plan_source: str, zig_triple: str, output: Path, c_flags: Sequence[str] = ()
) -> None:
    """Write ``output``: one ELF with no undefined symbol outside libc and libm.

    Raises BuildError with the compiler's own message.
    """
    with tempfile.TemporaryDirectory(prefix="tvm-flow-link-") as name:
        folder = Path(name)
        (folder / "plan.c").write_text(plan_source)
        (folder / "exports.map").write_text(_EXPORTS)
        with atomic_path(output) as temporary:
            command = [
                *(sys.executable, "-m", "ziglang", "cc", "-target", zig_triple, *_FLAGS, *c_flags, f"-I{INCLUDE}"),
                *(f"-Wl,--version-script={folder / 'exports.map'}", "-Wl,-z,defs"),
                *("-o", str(temporary), str(folder / "plan.c"), *map(str, objects), "-lm"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BuildError(
                    f"{output.name}: expected zig cc to link it for {zig_triple}, got exit code {done.returncode}: "
                    f"{done.stderr.strip()[-2000:]}"
                )


def compiler_versions() -> dict[str, str]:
    """Of what turns graphs into machine code: another version may give other kernels."""
    return {name: version(name) for name in ("apache-tvm", "ziglang")}
