"""Programs that commands start: the C compiler, the emulator, LLVM's and Khronos' tools."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.doctor.finding import Finding, Status
from tvm_flow.doctor.tried import try_command
from tvm_flow.toolchain.spirv import GLSLANG, OPTIMIZER, VALIDATOR


@dataclass(frozen=True)
class _Program:
    """Any of ``names`` on PATH, patterns of a file's name, will do; ``package`` is Debian's."""

    names: tuple[str, ...]
    needed_by: str
    package: str


_PROGRAMS = (
    _Program(("gcc",), "scripts/test and scripts/fuzz, nothing else", "gcc libc6-dev"),
    _Program(("llvm-mca", "llvm-mca-[0-9]*"), "tune --modelled", "llvm-19"),
    _Program(GLSLANG, "targets with backend vulkan", "glslang-tools"),
    _Program((OPTIMIZER,), "targets with backend vulkan", "spirv-tools"),
    _Program((VALIDATOR,), "targets with backend vulkan", "spirv-tools"),
)
_QEMU = _Program(
    ("qemu-aarch64", "qemu-aarch64-static"), "compile and import for AArch64 elsewhere: the check", "qemu-user-static"
)


def program_findings() -> Iterator[Finding]:
    """zig, started, and the others by their files."""
    yield _zig()
    if platform.machine() == "aarch64":
        yield Finding(_QEMU.names[0], Status.OK, "not needed on AArch64", _QEMU.needed_by)
    else:
        yield _program(_QEMU)
    yield from map(_program, _PROGRAMS)


def _zig() -> Finding:
    tried = try_command([sys.executable, "-m", "ziglang", "version"])
    status = Status.OK if tried.good else Status.WRONG
    mend = f"{sys.executable} -m pip install --force-reinstall --no-deps ziglang"
    return Finding("C compiler", status, f"zig: {tried.words}", "compile, import, run", mend, required=True)


def _program(program: _Program) -> Finding:
    found = next(filter(None, map(_on_path, program.names)), "")
    status = Status.OK if found else Status.MISSING
    mend = f"sudo apt-get install {program.package}"
    return Finding(program.names[0], status, found or "not on PATH", program.needed_by, mend)


def _on_path(pattern: str) -> str:
    """The path of a program by a pattern of its name; "" where there is none."""
    for folder in os.get_exec_path():
        for path in sorted(Path(folder).glob(pattern)):
            if shutil.which(path):
                return str(path)
    return ""
