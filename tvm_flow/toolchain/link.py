"""Kernels and plan to one shared library, by the C compiler that pip installs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvm_flow.artifact import atomic_path
from tvm_flow.scratch import temporary_folder
from tvm_flow.toolchain.zig import PAGES, zig_cc

INCLUDE = Path(__file__).resolve().parent.parent / "runtime" / "include"
EMULATE = INCLUDE.parent / "emulate"
"""C of the small programs that run kernels alone."""
# One name leaves a library, mostly the descriptor: two libraries in one process must not see each other's.
_EXPORTS = "{{ global: {}; local: *; }};\n"
_DESCRIPTOR = "tvm_flow_library"
_FLAGS = ("-std=c11", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-shared", "-s")
# A thread-local pointer by descriptor, as AArch64 always has it: the other way calls a function of one C library.
_X86_FLAGS = ("-mtls-dialect=gnu2",)


def link_library(
    objects: Sequence[Path],
    plan_source: str,
    zig_triple: str,
    output: Path,
    c_flags: Sequence[str] = (),
    exported: str = _DESCRIPTOR,
) -> None:
    """Write ``output``: one ELF with no undefined symbol outside libc and libm; ``objects`` may be C files too.

    Raises BuildError with the compiler's own words.
    """
    with temporary_folder("link") as folder:
        (folder / "plan.c").write_text(plan_source)
        flags = (*_FLAGS, *(_X86_FLAGS if zig_triple.startswith("x86_64") else ()), *c_flags)
        (folder / "exports.map").write_text(_EXPORTS.format(exported))
        with atomic_path(output) as temporary:
            arguments = (
                *(*flags, f"-I{INCLUDE}"),
                *(f"-Wl,--version-script={folder / 'exports.map'}", "-Wl,-z,defs", PAGES),
                *("-o", str(temporary), str(folder / "plan.c"), *map(str, objects), "-lm"),
            )
            zig_cc(arguments, output.name, zig_triple)
