"""The device's library: its size, what it asks of others, and for which machines it is made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tvm_flow.backends.vulkan.backend import RUNTIME_PART
from tvm_flow.bench.size import VULKAN_LIMIT
from tvm_flow.toolchain.runtime_library import build_device


@pytest.mark.parametrize("triple", ["x86_64-linux-gnu.2.28", "aarch64-linux-gnu.2.28", "aarch64-linux-musl"])
def test_it_is_small_and_needs_the_c_library_alone(triple: str) -> None:
    path = build_device("vulkan", RUNTIME_PART, triple)
    needed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert path.stat().st_size <= VULKAN_LIMIT
    assert {line.split("[")[1][:-1] for line in needed.splitlines() if "NEEDED" in line} <= {
        *("libc.so.6", "libdl.so.2", "libc.so"),
        *("ld-linux-aarch64.so.1", "libm.so.6", "libpthread.so.0"),
    }


def test_two_names_leave_it() -> None:
    names = subprocess.run(
        ["nm", "-D", "--defined-only", build_device("vulkan", RUNTIME_PART)], capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[2] for line in names.splitlines()} == {"tvm_flow_device_vulkan", "tvm_flow_vulkan_list"}


def test_every_source_is_strict_c11_for_another_compiler(tmp_path: Path) -> None:
    include = RUNTIME_PART.parents[2] / "runtime" / "include"
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wpedantic")
    for source in sorted(RUNTIME_PART.glob("*.c")):
        command = ["gcc", "-std=c11", "-D_GNU_SOURCE", *warnings, f"-I{include}", "-c", source, "-o", tmp_path / "o.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
