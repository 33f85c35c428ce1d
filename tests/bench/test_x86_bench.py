"""The x86 bench on one small shape: what it prints, not how fast this machine is."""

from __future__ import annotations

import json
import platform
import shutil

import pytest

from tvm_flow.backends.cpu import x86
from tvm_flow.bench.__main__ import main
from tvm_flow.bench.mca import find_llvm_mca, inner_loop
from tvm_flow.bench.shapes import Shape
from tvm_flow.bench.x86 import CORES, modelled_share, vnni_core

needs_mca = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("llvm-mca", "llvm-mca-19")), reason="no llvm-mca: apt-get install llvm-19"
)
ASSEMBLY = """
g:
.LBB0_2:
\t# a comment
\tvpbroadcastd\t(%r8,%r11), %zmm29
\tvpdpbusd\t%zmm29, %zmm26, %zmm18
\tvpdpbusd\t%zmm29, %zmm27, %zmm19
\taddq\t$4, %r11
\tjne\t.LBB0_2
\tretq
"""


def test_the_inner_loop_of_an_x86() -> None:
    loop = inner_loop(ASSEMBLY, "vpdpbusd")
    assert [line.split()[0] for line in loop.lines] == ["vpbroadcastd", "vpdpbusd", "vpdpbusd", "addq", "jne"]
    assert loop.products == 2


@needs_mca
@pytest.mark.parametrize("cpu", CORES)
def test_a_smaller_tile_is_further_from_the_peak(cpu: str) -> None:
    """Of one row, each vector of weights is loaded and turned for a single product."""
    mca, _ = find_llvm_mca()
    row, tile = (modelled_share(Shape(m, 96, 192), x86.AVX512VNNI, vnni_core(cpu), mca) for m in (1, 16))
    assert 0 < row < tile <= 1


@needs_mca
@pytest.mark.skipif(platform.machine() != "x86_64", reason="measures kernels of an x86")
def test_one_line_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x86", "--shape", "16,96,192", "--rounds", "1"]) == 0
    captured = capsys.readouterr()
    (text,) = captured.out.splitlines()
    line = json.loads(text)
    assert list(line) == ["modelled_shares", "peaks_per_cycle", "llvm_mca", "shapes", "calibration"]
    assert tuple(line["modelled_shares"]) == tuple(line["peaks_per_cycle"]) == CORES and line["shapes"] == 1
    calibration = line["calibration"]
    assert list(calibration) == ["isa", "cpu", "modelled", "measured", "least_ratio", "most"]
    assert calibration["least_ratio"] == calibration["most"] > 0
    assert captured.err.count("modelled: worst") == len(CORES)
