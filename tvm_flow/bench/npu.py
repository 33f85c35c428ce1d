"""``scripts/bench npu``: Arm's NPUs on the demo's step and on one block of STDiT-XL at 512 tokens, two lines for each.

    {"model", "between", "bit_exact", "mac_coverage", "regions", "crossings", "cycles": {ACCELERATOR: N},
     "bytes_1_step", "bytes_30_steps"}

``between``        what lies between linears: float, as bundles have it, or `tvm_flow.bench.npu_integer`
``bit_exact``      every kernel of the NPU, in Arm's emulation layer on seeded inputs, gives what its arithmetic says
``mac_coverage``   share of a step's multiply-adds in the NPU's kernels; ``regions`` are calls, each one graph
``crossings``      tensors copied between CPU and NPU in a step with its prologue
``cycles``         of a step's integer regions on each Ethos-U: vela's estimate for its default system, so compare them
                   with each other only. With float between linears they are the linears, without gates, residuals,
                   norms and attention; in integers they are whole blocks
``bytes_N_steps``  VGFs, weights, and scales of N steps of both branches

Utilisation (multiply-adds over cycles times those of a cycle), and the bytes of command streams, which share nothing
between steps, go to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tvm_flow.backends.npu.arm.backend import NAME, blob_of
from tvm_flow.backends.npu.arm.client import EmulatedNpu
from tvm_flow.backends.npu.arm.ethos import ethos_text
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.bench.npu_integer import block_graphs, integer_blocks, run_blocks, with_blocks
from tvm_flow.bench.npu_programs import NAMES, NpuProgram, npu_program
from tvm_flow.bench.npu_streams import ethos_streams, stage
from tvm_flow.check.calls import ExactnessReport, check_call
from tvm_flow.errors import BitExactError
from tvm_flow.graph.constants import Array, evaluate
from tvm_flow.graph.lifted import dtype_of
from tvm_flow.graph.program import KernelCall, TensorSpec
from tvm_flow.plan.coverage import coverage, kernel_macs
from tvm_flow.scratch import temporary_folder
from tvm_flow.toolchain.arm_npu import ETHOS_U, EthosStream, serialized

STEPS = 30
_BRANCHES = 2


def first_calls(packed: PackedProgram) -> dict[str, int]:
    """The first call of every kernel of the NPU."""
    calls = reversed(list(enumerate(packed.program.calls)))
    return {call.kernel: i for i, call in calls if packed.device_of(call.kernel) == NAME}


def run_kernels(packed: PackedProgram, folder: Path) -> tuple[bool, int]:
    """Whether every kernel of the NPU is exact, and the bytes of their graphs; disagreements go to stderr."""
    exact, size, report = True, 0, ExactnessReport()
    with EmulatedNpu() as npu:
        for kernel, index in tqdm(first_calls(packed).items(), "emulated", unit="kernel"):
            call, blob = packed.program.calls[index], blob_of(packed, index, folder)
            args, spec = [*_arguments(packed, call)], packed.program.tensors[call.output]
            got = np.frombuffer(npu.run(npu.load(blob), args), spec.dtype).reshape(spec.shape)
            size += len(blob.vgf)
            try:
                check_call(packed, index, (*args, got), "emulated", report)
            except BitExactError as error:
                exact = False
                print(f"{kernel}: {error}", file=sys.stderr)
    print(f"compared: {report.as_dict()}", file=sys.stderr)
    return exact, size


def _arguments(packed: PackedProgram, call: KernelCall) -> list[Array]:
    """Constants of the first step, and seeded codes or floats."""
    given, rng = packed.program.graph.given, np.random.default_rng(0)
    return [
        evaluate(packed.constants[n], given) if n in packed.constants else _random(rng, packed.program.tensors[n])
        for n in call.args
    ]


def _random(rng: np.random.Generator, spec: TensorSpec) -> Array:
    if spec.dtype == "int8":
        return rng.integers(-127, 128, spec.shape).astype(np.int8)
    return rng.standard_normal(spec.shape).astype(np.float32)


def ethos_graphs(given: NpuProgram) -> dict[str, bytes]:
    """TOSA of the integer region of each kernel of a step that starts with a linear of codes, scales of the first step.

    A product of floats is no region of an Ethos-U.
    """
    program, found = given.program, dict[str, bytes]()
    for kernel, index in first_calls(given.packed).items():
        args, known = program.calls[index].args, program.graph.constants
        constants = {i: evaluate(known[name], program.graph.given) for i, name in enumerate(args) if name in known}
        if index >= program.prologue and dtype_of(program.kernels[kernel].params[0]) == "int8":
            found[kernel] = serialized(ethos_text(program.kernels[kernel], constants))
    return found


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench npu", description="Arm's NPUs, emulated and estimated")
    parser.add_argument("--model", choices=NAMES, help="one of both")
    parser.add_argument("--between", choices=("float", "integer"), help="one of both: what lies between linears")
    given = parser.parse_args(arguments)
    for name in [given.model] if given.model else NAMES:
        for between in [given.between] if given.between else ("float", "integer"):
            print(json.dumps(measure(name) if between == "float" else measure_integer(name)), flush=True)


def measure(name: str) -> Mapping[str, object]:
    """The line of the program ``name``; raises BuildError when Arm's tools are not installed or refuse a region."""
    with temporary_folder("npu") as folder:
        with stage(f"{name}: calibrate, quantize, export, import"):
            program = npu_program(name, folder)
        found = coverage(program.packed)
        with stage(f"{name}: kernels in the emulation layer"):
            exact, blob_bytes = run_kernels(program.packed, folder)
        streams = ethos_streams(ethos_graphs(program), list(ETHOS_U))
        cycles = {each: _cycles(program, made, f"{name}, {each}") for each, made in streams.items()}
    head = {"model": name, "between": "float", "bit_exact": exact, "mac_coverage": round(found.share(NAME), 4)}
    counts = {"regions": found.devices[NAME].calls, "crossings": found.crossings, "cycles": cycles}
    return {**head, **counts, **_bytes(blob_bytes + program.shared_bytes, program.step_bytes)}


def measure_integer(name: str) -> Mapping[str, object]:
    """The line of ``name``'s blocks in integers, see `tvm_flow.bench.npu_integer`; raises BuildError as `measure`."""
    with temporary_folder("npu") as folder:
        with stage(f"{name} in integers: calibrate, quantize"):
            given = integer_blocks(name, folder)
        with stage(f"{name} in integers: export and import of its linears"):
            packed, kernels = with_blocks(npu_program(name, folder), list(given.blocks))
        exact, blob_bytes = run_blocks(given)
        made = ethos_streams(block_graphs(given), list(ETHOS_U))
    found, (shared, changing) = coverage(packed), given.constant_bytes()
    program, regions = packed.program, list(given.kinds.values())
    cycles = {}
    for accelerator, streams in made.items():
        cycles[accelerator] = sum(len(names) * streams[names[0]].cycles for names in regions)
        size = sum(len(n) * (len(streams[n[0]].commands) + len(streams[n[0]].weights)) for n in regions)
        macs = sum(kernel_macs(program.kernels[kernel]) for kernel in kernels.values())
        _tell(f"{name} in integers, {accelerator}", (macs, cycles[accelerator], size))
    joined = sum(packed.device_of(call.kernel) == NAME for call in program.calls) - 2 * len(given.blocks)
    head = {"model": name, "between": "integer", "bit_exact": exact, "mac_coverage": round(found.share(NAME), 4)}
    counts = {"regions": joined, "crossings": found.crossings, "cycles": cycles}
    return {**head, **counts, **_bytes(blob_bytes + shared, changing)}


def _bytes(fixed: int, step: int) -> Mapping[str, int]:
    return {f"bytes_{n}_step{'s' if n > 1 else ''}": fixed + n * step for n in (1, STEPS)}


def _cycles(given: NpuProgram, found: Mapping[str, EthosStream], what: str) -> int:
    program = given.program
    calls = Counter(call.kernel for call in program.calls[program.prologue :])
    cycles = sum(calls[kernel] * stream.cycles for kernel, stream in found.items())
    macs = sum(calls[kernel] * kernel_macs(program.kernels[kernel]) for kernel in found)
    size = sum(calls[kernel] * (len(stream.commands) + len(stream.weights)) for kernel, stream in found.items())
    _tell(what, (macs, cycles, size))
    return cycles


def _tell(what: str, found: tuple[int, int, int]) -> None:
    """Of multiply-adds, cycles, and bytes of command streams, to stderr."""
    macs, cycles, size = found
    busy = macs / (cycles * ETHOS_U[what.split()[-1]])
    print(
        f"{what}: {macs} MACs in {cycles} cycles, utilisation {busy:.3f}; command streams {size} bytes "
        f"for a step and branch, {STEPS * _BRANCHES * size} for {STEPS} steps of {_BRANCHES}, where nothing is shared",
        file=sys.stderr,
    )
