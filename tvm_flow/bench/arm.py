"""``scripts/bench arm``: how near our AArch64 kernels come to a core's peak, without the core.

Each core gets the kernel compiled for it; `tvm_flow.bench.mca` gives the inner loop's share of the core's peak, whose
products per cycle (128-bit SDOT or SMMLA instructions) stand in ``CORES``. `tvm_flow.bench.emulated` counts executed
instructions. The line on stdout holds the smallest share and the most instructions of any shape; ``insn_per_mac`` is
that of SDOT compiled for cortex-a76.

M decides only how often a loop runs, so each K and N is looked at once. ``onnxruntime_insn_per_mac`` is null: its
wheel needs an aarch64 Python and C library, which this bench does not install.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

import tvm
from tvm.target import Target

from tvm_flow.bench.emulated import instructions_per_mac
from tvm_flow.bench.mca import cycles_per_pass, find_llvm_mca, inner_loop
from tvm_flow.bench.shapes import Shape, parse_shapes
from tvm_flow.kernels import Isa, arm
from tvm_flow.kernels.gemm import gemm


@dataclass(frozen=True)
class Core:
    """LLVM's name of a core, the kernel for it, and how many of the instruction it starts per cycle at best."""

    key: str
    cpu: str
    isa: Isa
    per_cycle: int


CORES = (
    Core("a55_sdot", "cortex-a55", arm.SDOT, 1),
    Core("a76_sdot", "cortex-a76", arm.SDOT, 2),
    Core("n1_sdot", "neoverse-n1", arm.SDOT, 2),
    Core("n2_sdot", "neoverse-n2", arm.SDOT, 2),
    Core("n2_smmla", "neoverse-n2", arm.SMMLA, 2),
    Core("v1_sdot", "neoverse-v1", arm.SDOT, 4),
    Core("v1_smmla", "neoverse-v1", arm.SMMLA, 4),
)
"""One a cycle on A55, two 128-bit pipes on A76, N1 and N2, four on V1; LLVM's models never exceed it."""


def share_of_peak(core: Core, shape: Shape, mca: str) -> float:
    """Of the inner loop of ``shape``'s kernel, compiled for ``core``."""
    target = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": core.cpu})
    function = gemm("g", shape.m, shape.k, shape.n, core.isa)
    assembly = str(tvm.tirx.build(tvm.IRModule({"g": function}), target=target).inspect_source("asm"))
    loop = inner_loop(assembly, core.isa.name)
    return loop.products / (cycles_per_pass(loop, core.cpu, mca) * core.per_cycle)


def main(arguments: list[str]) -> None:
    """Parse, look at every shape on every core, print the worst."""
    parser = argparse.ArgumentParser(prog="bench arm", description="AArch64 kernels by llvm-mca and qemu")
    parser.add_argument("--shape", action="append", default=[], metavar="M,K,N", help="instead of all of STDiT's")
    shapes = parse_shapes(parser.parse_args(arguments).shape)
    mca, version = find_llvm_mca()
    print(f"{mca} {version}", file=sys.stderr)
    loops = {(s.k, s.n): s for s in reversed(shapes)}.values()
    worst: dict[str, float] = {}
    for core in CORES:
        shares = {shape: share_of_peak(core, shape, mca) for shape in loops}
        shape = min(shares, key=lambda s: shares[s])
        worst[core.key] = shares[shape]
        text = f"worst {shares[shape]:.3f} of peak at {shape}, best {max(shares.values()):.3f}"
        print(f"{core.cpu:>12} {core.isa.name:>5}: {text}", file=sys.stderr)
    counts = {}
    for isa, cpu in ((arm.SDOT, "cortex-a76"), (arm.SMMLA, "neoverse-n2")):
        counts[isa.name] = max(instructions_per_mac(isa, cpu, k) for k in {s.k for s in shapes})
        print(f"{cpu:>12} {isa.name:>5}: {counts[isa.name]:.5f} executed instructions per MAC", file=sys.stderr)
    print("onnxruntime: not run, its aarch64 wheel needs an aarch64 Python under the emulator", file=sys.stderr)
    line = {f"{key}_share": round(worst[key], 3) for key in ("a55_sdot", "a76_sdot", "n2_smmla")}
    rest = {"insn_per_mac": round(counts["sdot"], 5), "onnxruntime_insn_per_mac": None}
    print(json.dumps(line | rest | {"shapes": len(shapes)}))
