"""One kernel of a program by itself: scheduled, compiled, and run on a machine with arguments that were kept."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_flow.backends.cpu.codegen import compile_object, scheduled_kernels
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.plan.static_plan import DTYPES
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE
from tvm_flow.toolchain.zig import zig_cc

_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-s")
_HEAD = struct.Struct("<3I4x8q")


def scheduled_kernel(packed: PackedProgram, kernel: str) -> Any:
    """The TIR function that is compiled for ``kernel``; raises BuildError."""
    program = replace(packed.program, kernels={kernel: packed.program.kernels[kernel]})
    return scheduled_kernels(replace(packed, program=program))[kernel]


def assembly(kernel: str, function: Any, target: TargetSpec) -> str:
    """What LLVM makes of the scheduled ``function``."""
    return str(tvm.tirx.build(tvm.IRModule({kernel: function}), target=target.tvm()).inspect_source("asm"))


def link_kernel(kernel: str, function: Any, target: TargetSpec, folder: Path, prefix: Sequence[str] = ()) -> list[str]:
    """The command that runs the scheduled ``function`` alone, compiled and linked in ``folder``.

    ``prefix`` is the command of a machine of another kind than this process; then the program is static. Raises
    BuildError.
    """
    compile_object({kernel: function}, target.tvm(), folder / "kernel.o")
    triple = f"{target.triple.split('-')[0]}-linux-musl" if prefix else target.zig_triple
    arguments = (
        *(*_FLAGS, *(["-static"] if prefix else []), f"-DKERNEL=__tvm_ffi_{kernel}", "-o", str(folder / "kernel")),
        *(str(EMULATE / "kernel.c"), str(folder / "kernel.o")),
    )
    zig_cc(arguments, f"kernel {kernel}", triple)
    return [*prefix, str(folder / "kernel")]


def run_kernel(command: Sequence[str], args: Sequence[Array]) -> Array:
    """What the program of `link_kernel` writes for ``args``, whose last is an output to be overwritten.

    Raises BuildError with the program's own words when it fails.
    """
    assert sys.byteorder == "little", platform.machine()
    request = b"".join([struct.pack("<I", len(args)), *(argument_head(array) + array.tobytes() for array in args)])
    done = subprocess.run(command, input=request, capture_output=True, check=False)
    output = args[-1]
    if done.returncode != 0 or len(done.stdout) != output.nbytes:
        words = done.stderr.decode(errors="replace").strip()[-500:] or "it said nothing"
        raise BuildError(
            f"{' '.join(command)}: expected {output.nbytes} bytes, got {len(done.stdout)}, exit code "
            f"{done.returncode}: {words}; report this kernel"
        )
    return np.frombuffer(done.stdout, output.dtype).reshape(output.shape)


def argument_head(array: Array) -> bytes:
    """What comes before the elements of an argument of kernel.c and race.c."""
    code, bits = DTYPES[str(array.dtype)]
    shape = (*array.shape, *(0 for _ in range(8 - array.ndim)))
    return _HEAD.pack(code, bits, array.ndim, *shape)
