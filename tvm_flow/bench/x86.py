"""``scripts/bench x86``: how near our int8 kernels come to the peak of cores with AVX512-VNNI, modelled by llvm-mca.

No such core is needed, and nothing is measured on one: a share is of the inner loop alone (`tvm_flow.bench.mca`), every
load a hit, what surrounds the loop left out. The peak is that of the same model: twelve independent chains of the
instruction in registers, as `tvm_flow.profile.peak` measures it.

    share = products of the loop per cycle / products of the chains per cycle

``peaks_per_cycle`` are how many of the instruction the model starts in a cycle at best, to be held against what is
known of a core: LLVM 19 has vpdpbusd of 512 bits on Zen 4 every second cycle, where 235 GMAC/s were measured, one in
each cycle of 3.7 GHz. A share of such a peak says little.

How far such a share is from a real one, the kernels for this machine say, whose both are known: ``calibration`` holds
the least modelled share of any shape for this core, the least measured one (the fastest of ``--rounds`` rounds of the
product by that of the peak, at 1024 rows), and the smallest and largest measured / modelled of a shape. The peak of a
shared core moves during a run, which is in that range too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import tvm

from tvm_flow.backends.cpu import Isa, choose_isa
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.bench.mca import find_llvm_mca, inner_loop
from tvm_flow.bench.peers import ours
from tvm_flow.bench.shapes import Shape, parse_shapes
from tvm_flow.profile.peak import CHAINS, INSTRUCTIONS, peak_meter
from tvm_flow.target.spec import TargetSpec, detect_host, load_target
from tvm_flow.tune.core_cycles import block_cycles

CORES = ("icelake-server", "sapphirerapids", "znver4")
"""LLVM's names; the first has two vector units of 512 bits, Zen 4 the two halves of one."""
ROWS = 1024
"""Of a product that is measured: a quarter of a second for the largest, at the peak of AVX2."""


def vnni_core(cpu: str) -> TargetSpec:
    """``cpu`` with no more than x86-64-v4 and VNNI, which all of ``CORES`` have."""
    v4 = load_target("x86-64-v4")
    return TargetSpec(cpu, v4.triple, cpu, v4.features | {"avx512vnni"})


def peak_code(isa: Isa) -> list[str]:
    """What `tvm_flow.profile.peak` measures of ``isa``, a line an instruction; the first is the one that multiplies."""
    instruction = INSTRUCTIONS[isa.name]
    codes = (instruction.code.format(r=instruction.register, i=2 + chain) for chain in range(CHAINS))
    return [part.strip().replace("%%", "%") for code in codes for part in code.split(";") if part.strip()]


def modelled_share(shape: Shape, isa: Isa, target: TargetSpec, mca: str) -> float:
    """Of the inner loop of ``shape``'s kernel for ``target``, of the model's own peak of the instruction of ``isa``."""
    chains = peak_code(isa)
    function = gemm("g", shape.m, shape.k, shape.n, isa)
    assembly = str(tvm.tirx.build(tvm.IRModule({"g": function}), target=target.tvm()).inspect_source("asm"))
    loop = inner_loop(assembly, chains[0].split()[0])
    cycles, peak_cycles = block_cycles([loop.lines, chains], target, mca)
    return loop.products / cycles * peak_cycles / CHAINS


def measured_share(shape: Shape, isa: Isa, rounds: int) -> float:
    """The same of the whole product with ``ROWS`` rows on one core of this machine."""
    rng = np.random.default_rng(shape.macs)
    x, w = (rng.integers(-128, 128, size, np.int8) for size in ((ROWS, shape.k), (shape.k, shape.n)))
    product, peak = ours(x, w, isa), peak_meter(isa)
    product.run()
    seconds, peaks = [], []
    for _ in range(rounds):
        peaks.append(peak())
        start = time.thread_time()  # as the peak's: a neighbour's turn is no property of the kernel
        product.run()
        seconds.append(time.thread_time() - start)
    return ROWS * shape.k * shape.n / min(seconds) / 1e9 / max(peaks)


def calibration(shapes: list[Shape], rounds: int, mca: str) -> dict[str, object]:
    """Modelled and measured shares of this machine's kernels."""
    host = detect_host()
    isa = choose_isa(host.features)
    modelled = [modelled_share(shape, isa, host, mca) for shape in shapes]
    measured = [measured_share(shape, isa, rounds) for shape in shapes]
    ratios = [real / model for real, model in zip(measured, modelled, strict=True)]
    for shape, model, real in zip(shapes, modelled, measured, strict=True):
        print(f"{host.cpu:>15} {isa.name:>10}: K = {shape.k}, N = {shape.n}: {model:.3f}, {real:.3f}", file=sys.stderr)
    values = {"modelled": min(modelled), "measured": min(measured), "least_ratio": min(ratios), "most": max(ratios)}
    return {"isa": isa.name, "cpu": host.cpu} | {key: round(value, 3) for key, value in values.items()}


def main(arguments: list[str]) -> None:
    """Parse, model every shape on every core, measure those of this machine, print one line."""
    parser = argparse.ArgumentParser(prog="bench x86", description="AVX512-VNNI kernels by llvm-mca")
    parser.add_argument("--shape", action="append", default=[], metavar="M,K,N", help="instead of all of STDiT's")
    parser.add_argument("--rounds", type=int, default=7, help="of each measured product (default: 7)")
    options = parser.parse_args(arguments)
    shapes = list({(s.k, s.n): s for s in reversed(parse_shapes(options.shape))}.values())
    mca, version = find_llvm_mca()
    shares: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for cpu in CORES:
        target = vnni_core(cpu)
        isa = choose_isa(target.features)
        found = {shape: modelled_share(shape, isa, target, mca) for shape in shapes}
        worst = min(found, key=lambda shape: found[shape])
        text = f"modelled: worst {found[worst]:.3f} of peak at {worst}, best {max(found.values()):.3f}"
        print(f"{cpu:>15} {isa.name:>10}: {text}", file=sys.stderr)
        shares[cpu] = round(found[worst], 3)
        peaks[cpu] = round(CHAINS / block_cycles([peak_code(isa)], target, mca)[0], 2)
    line = {"modelled_shares": shares, "peaks_per_cycle": peaks, "llvm_mca": version, "shapes": len(shapes)}
    print(json.dumps(line | {"calibration": calibration(shapes, max(options.rounds, 1), mca)}))
