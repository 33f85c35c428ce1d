"""The runtime's answer for every feature name, against what Linux reports here and what qemu's cores have."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import toy_bundle

from tvm_flow.target.feature_names import ARCHITECTURES
from tvm_flow.target.features import reported
from tvm_flow.toolchain.runtime_library import RUNTIME

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
LEVEL_2 = {"sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "crc32", "popcnt", "cx16", "sahf"}
LEVEL_3 = LEVEL_2 | {"avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe"}
ASKED = sorted(LEVEL_3 | {"avx512f", "avx512vnni", "avx512bf16", "avxvnni", "sse4a"})
# qemu's core, and what of ASKED it has; without xsave the system saves no AVX registers, whatever the core has.
CORES = {
    "qemu64": {"sse2", "sse3", "cx16", "sahf"},
    "Nehalem": LEVEL_2,
    "Haswell": LEVEL_3,
    "Haswell,-xsave": LEVEL_3 - {"avx", "avx2", "fma", "f16c"},
}
QEMU_ARM = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
ARM_CORES = {
    "cortex-a72": {"neon", "aes", "sha2", "crc"},
    "cortex-a76": {"neon", "aes", "sha2", "crc", "lse", "rdm", "rcpc", "fullfp16", "dotprod"},
    "max": ARCHITECTURES["aarch64"].checkable,
    "max,sve=off": ARCHITECTURES["aarch64"].checkable - {"sve", "sve2"},
}
SOURCES = [toy_bundle.SOURCES / "cpu_check.c", RUNTIME / "src" / "cpu.c", RUNTIME / "src" / "error.c"]
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for this machine, an x86")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle.compile_c(tmp_path_factory.mktemp("cpu") / "cpu_check", SOURCES, "-static")


@pytest.fixture(scope="module")
def arm_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("arm") / "cpu_check"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static", "-std=c11", "-O1"]
    command += ["-D_GNU_SOURCE", f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}", "-o", str(output)]
    subprocess.run([*command, *map(str, SOURCES)], check=True)
    return output


def has(command: list[str], name: str) -> bool:
    said = subprocess.run([*command, name], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == "0 \n" or said.startswith(f"7 x.so: its kernels use {name}, which this processor does not report")
    return said == "0 \n"


@x86
def test_every_name_is_answered_as_linux_does(program: Path) -> None:
    here = reported("x86_64-linux-gnu", Path("/proc/cpuinfo").read_text())
    names = ARCHITECTURES["x86_64"].checkable
    assert {name for name in names if has([str(program)], name)} == here


@x86
@pytest.mark.skipif(QEMU is None, reason="no qemu-x86_64: apt-get install qemu-user-static")
@pytest.mark.parametrize("core", CORES)
def test_a_core_has_what_its_registers_are_saved_for(program: Path, core: str) -> None:
    command = [str(QEMU), "-cpu", core, str(program)]
    assert {name for name in ASKED if has(command, name)} == CORES[core]


@pytest.mark.skipif(QEMU_ARM is None, reason="no qemu-aarch64: apt-get install qemu-user-static")
@pytest.mark.parametrize("core", ARM_CORES)
def test_an_arm_core_has_what_its_kernel_reports(arm_program: Path, core: str) -> None:
    command = [str(QEMU_ARM), "-cpu", core, str(arm_program)]
    names = ARCHITECTURES["aarch64"].checkable - {"lse2"}  # qemu reports it since its version 8
    assert {name for name in names if has(command, name)} == ARM_CORES[core] - {"lse2"}
