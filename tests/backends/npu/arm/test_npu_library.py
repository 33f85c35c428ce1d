"""The library of the device npu_arm: its size, its sources, and what its reader of VGFs does with damage."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.arm_npu import codes, graph_of, needs_npu_arm

from tvm_flow.backends.npu.arm.npu_device import RUNTIME_PART, VULKAN_PART, build_board_device
from tvm_flow.bench.size import NPU_LIMIT
from tvm_flow.toolchain.arm_npu import vgf_of
from tvm_flow.toolchain.runtime_library import RUNTIME


@pytest.mark.parametrize("triple", ["x86_64-linux-gnu.2.28", "aarch64-linux-gnu.2.28"])
def test_it_is_small_for_boards_and_one_name_leaves_it(triple: str) -> None:
    path = build_board_device(triple)
    assert path.stat().st_size <= NPU_LIMIT
    names = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    assert [line.split()[2] for line in names.splitlines()] == ["tvm_flow_device_npu_arm"]


def test_every_source_is_strict_c11_for_another_compiler(tmp_path: Path) -> None:
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wpedantic")
    includes = [f"-I{folder}" for folder in (RUNTIME / "include", RUNTIME_PART, VULKAN_PART)]
    for source in sorted(RUNTIME_PART.glob("*.c")):
        command = ["gcc", "-std=c11", "-D_GNU_SOURCE", *warnings, *includes, "-c", source, "-o", tmp_path / "o.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@needs_npu_arm
def test_damaged_graphs_are_refused_or_read_within_their_bytes(tmp_path: Path) -> None:
    """Every byte, eight ways, and every length."""
    rng = np.random.default_rng(1)
    table = codes(rng, 256)
    flatbuffer, _ = graph_of(lambda g, x: g.table(x, g.constant(table)), [codes(rng, 2, 3)])
    (tmp_path / "graph.vgf").write_bytes(vgf_of(flatbuffer))
    program = tmp_path / "damaged"
    sources = [Path(__file__).parent / "c" / "damaged_vgf.c", RUNTIME_PART / "vgf.c"]
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    includes = [f"-I{folder}" for folder in (RUNTIME / "include", RUNTIME_PART, VULKAN_PART)]
    subprocess.run(["gcc", *flags, *includes, *sources, "-o", program], check=True)
    done = subprocess.run([program, tmp_path / "graph.vgf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused, tried = map(int, re.findall(r"\d+", done.stdout))
    assert tried > 9000 and refused > tried // 9, "every length but the whole is refused, for one"
