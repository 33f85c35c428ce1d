"""What every bundle brings for the C programs of its target, beside what it runs on.

    lib/<target>/libtvm_flow.so.0         the runtime, for glibc 2.28 and later
    lib/<target>/libtvm_flow_device_*.so  devices besides the CPU that the target names, where they are made for boards
    lib/<target>/check_bundle             `check_bundle BUNDLE` on the board: the golden output, bit for bit, or why not
    include/tvm_flow*.h                   its headers
    LICENSE                               of all of them

    cc app.c -Iinclude lib/T/libtvm_flow.so.0 -Wl,-rpath,'$ORIGIN' -lm

The manifest lists them with their hashes. Nothing of the flow reads them.
"""

from __future__ import annotations

from pathlib import Path

from tvm_flow.backends.base import BoardPart
from tvm_flow.backends.registry import backend_named
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.runtime_library import RUNTIME, SONAME, build_checker, build_runtime

INCLUDE = RUNTIME / "include"


def board_files(target: TargetSpec) -> dict[str, Path]:
    """The files of the module's table by their paths in a bundle; raises BuildError with the compiler's message."""
    lib, triple = f"lib/{target.name}", target.zig_triple
    made = {f"{lib}/{SONAME}": build_runtime(triple), f"{lib}/check_bundle": build_checker(triple)}
    for name in target.backends:
        backend = backend_named(name)
        if isinstance(backend, BoardPart):
            made[f"{lib}/libtvm_flow_device_{name}.so"] = backend.board_library(triple)
            made |= {f"include/{path.name}": path for path in backend.board_headers()}
    return made | header_files() | {"LICENSE": RUNTIME / "LICENSE"}


def header_files() -> dict[str, Path]:
    """The runtime's headers."""
    return {f"include/{path.name}": path for path in sorted(INCLUDE.glob("*.h"))}
