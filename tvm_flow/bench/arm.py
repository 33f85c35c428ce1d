"""``scripts/bench arm``: how near our AArch64 kernels come to a core's peak, without the core.

Each core gets the kernel compiled for it; `tvm_flow.bench.mca` gives the inner loop's share of the core's peak, whose
products per cycle (128-bit SDOT or SMMLA instructions) stand in ``CORES``. `tvm_flow.bench.emulated` counts executed
instructions of our product of int8 matrices, `tvm_flow.bench.foreign` those of onnxruntime's. The line on stdout holds
the smallest share of any shape; ``insn_per_mac`` and ``onnxruntime_insn_per_mac`` are those of SDOT on cortex-a76 for
the shape where ours / onnxruntime's is largest, and ``insn_ratios`` holds that ratio for every instruction set.

``--step`` counts a whole block of a model instead, on one core: `tvm_flow.bench.arm_step` says what its line holds.

M decides only how often a loop runs, so each K and N is looked at once, under qemu with ``ROWS`` rows. More rows spread
what a call costs over more products: for K = N = 1152, 64 rows against 1024 change ours by less than 0.01 % (SDOT) and
onnxruntime's by 0.25 % (SDOT) and 0.4 % (SMMLA). Ours of SMMLA lays its rows out once for each of the tasks that few
rows are cut into: 0.052 with 64 rows, 0.047 with 1024 (2026-11-26).

Without dotprod both add two products in int16 by SMLAL, which turns -128 * -128 twice, 32768, into -32768: the weights
here have no -128, and ours takes that kernel for such weights alone (`tvm_flow.backends.cpu.arm`).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm.target import Target

from tvm_flow.backends.cpu import Isa, arm
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.bench.arm_step import StepCore, step_line
from tvm_flow.bench.emulated import instructions_per_mac
from tvm_flow.bench.foreign import onnxruntime_instructions_per_mac
from tvm_flow.bench.foreign_run import EmulatedCore
from tvm_flow.bench.mca import cycles_per_pass, find_llvm_mca, inner_loop
from tvm_flow.bench.shapes import Shape, parse_shapes
from tvm_flow.bench.wheel import CACHE
from tvm_flow.errors import ConfigError


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


@dataclass(frozen=True)
class Pair:
    """A kernel of ours compiled for LLVM's ``llvm_cpu``, and qemu's core that both sides run on.

    ``key`` names the feature of cores that get it.
    """

    key: str
    isa: Isa
    llvm_cpu: str
    core: EmulatedCore


PAIRS = (
    Pair("neon", arm.SMLAL, "cortex-a72", EmulatedCore("cortex-a72", 0xD08)),
    Pair("sdot", arm.SDOT, "cortex-a76", EmulatedCore("cortex-a76", 0xD0B)),
    Pair("smmla", arm.SMMLA, "neoverse-n2", EmulatedCore("max,sme=off,sve=off", 0xD49)),
)
"""qemu 7.2 models no core with i8mm. With SVE at N2's 128 bits onnxruntime takes an SVE kernel, which executes more
instructions (0.0719 per MAC for 64x1152x1152) than its SMMLA one (0.0535), so it is given a core without SVE."""

STEP_CORES = {
    "cortex-a72": StepCore("raspberry-pi-4", PAIRS[0].core),
    "cortex-a76": StepCore("raspberry-pi-5", PAIRS[1].core),
    "cortex-a710": StepCore("snapdragon-a710", EmulatedCore(PAIRS[2].core.qemu_cpu, 0xD47)),
}
"""Targets of ``--step`` by their core; a Snapdragon's A710 is without SVE, so nothing is withheld from either side."""

ROWS = 64


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
    parser.add_argument("--step", action="store_true", help="instructions of a whole block beside onnxruntime's")
    parser.add_argument(
        "--cpu", default="cortex-a76", help="of the block: cortex-a72, cortex-a76 (default) or cortex-a710"
    )
    parser.add_argument("--model", default="stdit-xl", help="of the block: stdit-xl (default) or stdit3-xl")
    options = parser.parse_args(arguments)
    if options.step:
        print(json.dumps(step_line(options.model, 1, step_core(options.cpu))))
        return
    shapes = parse_shapes(options.shape)
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
    worst_ratio: dict[str, float] = {}
    sdot = (0.0, 0.0)
    for pair in PAIRS:
        counts = {shape: count_both(pair, shape) for shape in loops}
        shape = max(counts, key=lambda s: counts[s][0] / counts[s][1])
        ours, theirs = counts[shape]
        worst_ratio[pair.key] = round(ours / theirs, 3)
        sdot = counts[shape] if pair.isa is arm.SDOT else sdot
        text = f"{ours:.5f} executed instructions per MAC, onnxruntime {theirs:.5f}, at K = {shape.k}, N = {shape.n}"
        print(f"{pair.llvm_cpu:>12} {pair.isa.name:>5}: {text}", file=sys.stderr)
    line = {f"{key}_share": round(worst[key], 3) for key in ("a55_sdot", "a76_sdot", "n2_smmla")}
    counted = {"insn_per_mac": round(sdot[0], 5), "onnxruntime_insn_per_mac": round(sdot[1], 5)}
    print(json.dumps(line | counted | {"shapes": len(shapes), "insn_ratios": worst_ratio}))


def step_core(cpu: str) -> StepCore:
    """Of ``--cpu``; raises ConfigError for another name."""
    if cpu not in STEP_CORES:
        raise ConfigError(f"cpu {cpu!r}: expected one of {', '.join(STEP_CORES)}; choose one of them")
    return STEP_CORES[cpu]


def count_both(pair: Pair, shape: Shape, cache: Path = CACHE) -> tuple[float, float]:
    """Executed instructions per MAC, ours and onnxruntime's, of ``shape`` with at most ``ROWS`` rows."""
    few = Shape(min(shape.m, ROWS), shape.k, shape.n)
    ours = instructions_per_mac(pair.isa, pair.llvm_cpu, pair.core.qemu_cpu, few)
    return ours, onnxruntime_instructions_per_mac(pair.core, few, cache)
