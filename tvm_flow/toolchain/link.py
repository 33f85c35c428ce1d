"""Kernels and plan to one shared library, by the C compiler that pip installs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tvm_flow.artifact import atomic_path
from tvm_flow.toolchain.zig import zig_cc

INCLUDE = Path(__file__).resolve().parent.parent / "runtime" / "include"
# The descriptor is the only name that leaves the library: two libraries in one process must not see each other's.
_EXPORTS = "{ global: tvm_flow_library; local: *; };\n"
_FLAGS = ("-std=c11", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-shared", "-s")


def link_library(
    objects: Sequence[Path], plan_source: str, zig_triple: str, output: Path, c_flags: Sequence[str] = ()
) -> None:
    """Write ``output``: one ELF with no undefined symbol outside libc and libm.

    Raises BuildError with the compiler's own words.
    """
    with tempfile.TemporaryDirectory(prefix="tvm-flow-link-") as name:
        folder = Path(name)
        (folder / "plan.c").write_text(plan_source)
        (folder / "exports.map").write_text(_EXPORTS)
        with atomic_path(output) as temporary:
            arguments = (
                *(*_FLAGS, *c_flags, f"-I{INCLUDE}"),
                *(f"-Wl,--version-script={folder / 'exports.map'}", "-Wl,-z,defs"),
                *("-o", str(temporary), str(folder / "plan.c"), *map(str, objects), "-lm"),
            )
            zig_cc(arguments, output.name, zig_triple)
