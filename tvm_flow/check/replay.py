"""``tvm-flow replay``: one kernel of a failed compilation again, from the folder that `tvm_flow.check.evidence` kept.

It is compiled from the function that failed (with ``again``: lowered anew by this version), run on a machine for its
target with the arguments that were kept, and compared as it was then.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_flow.artifact import read_json
from tvm_flow.backends.base import Kernel, Offer
from tvm_flow.backends.cpu.backend import WEIGHT, CpuBackend
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.packed import CPU, PackedProgram, Placement
from tvm_flow.check.calls import ExactnessReport, check_call
from tvm_flow.check.evidence import EVIDENCE
from tvm_flow.check.kernels import link_kernel, run_kernel, scheduled_kernel
from tvm_flow.check.machines import machine_of
from tvm_flow.check.sums import link_sums
from tvm_flow.errors import BitExactError, BuildError, ConfigError, TvmFlowError
from tvm_flow.graph.constants import Array
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import KernelCall, Program
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec

_OBJDUMPS = ("llvm-objdump", "llvm-objdump-19", "objdump")


@dataclass(frozen=True)
class Kept:
    """A folder of evidence; ``tir`` is None when the kernel could not be scheduled, ``args`` when it never ran."""

    kernel: str
    where: str
    call: int
    error: str
    target: TargetSpec
    packed: PackedProgram
    tir: Any | None
    args: tuple[Array, ...] | None


def load_evidence(folder: Path) -> Kept:
    """Read ``folder``; raises ConfigError when it is no evidence, or damaged."""
    facts = read_json(folder / EVIDENCE)
    try:
        if not (folder / "kernel.json").exists():
            raise BitExactError(f"{facts['error']}; no one kernel failed: see module.txt and calls.txt in {folder}")
        described, kernel = facts["target"], facts["kernel"]
        if facts["device"] != CPU:
            raise BuildError(
                f"kernel {kernel}: expected one that the CPU ran, got one of {facts['device']}: {facts['error']}; its "
                f"arguments and what was expected are in {folder}"
            )
        features, disabled = (frozenset(described[key]) for key in ("features", "disabled"))
        target = TargetSpec(described["name"], described["triple"], described["cpu"], features, disabled)
        function = tvm.ir.load_json((folder / "kernel.json").read_text())
        tir = folder / "tir.json"
        constant = tuple(facts["packed"] and i == WEIGHT for i in range(len(function.params)))
        offer = CpuBackend().offers(Kernel(kernel, function, constant), target)
        assert isinstance(offer, Offer), "the CPU takes every kernel"
        products = {kernel: offer.choice} if isinstance(offer.choice, Product) else {}
        placement = Placement(CPU, offer.implementation, offer.choice, offer.layouts)
        packed = PackedProgram(_one_call(kernel, function, facts["call"] or 0), {}, products, {kernel: placement})
        return Kept(
            *(kernel, facts["where"], facts["call"] or 0, facts["error"], target, packed),
            tvm.ir.load_json(tir.read_text()) if tir.exists() else None,
            _arguments(folder / "arguments.npz", len(function.params) + 1),
        )
    except TvmFlowError:
        raise
    except Exception as error:  # TVM, zip files and numpy have many kinds for a damaged file
        raise ConfigError(f"{folder}: expected what a failed compile kept, got: {error!r}; copy it again") from error


def replay(folder: Path, again: bool = False) -> str:
    """Repeat the kernel of ``folder``; returns what was compared when it is right now.

    Raises the kept error's kind: BitExactError with the words of the check, BuildError with those of the compiler.
    """
    kept = load_evidence(folder)
    machine = machine_of(kept.target)
    function = kept.tir if kept.tir is not None and not again else scheduled_kernel(kept.packed, kept.kernel)
    with temporary_folder("replay") as folder:
        command = link_kernel(kept.kernel, function, kept.target, folder, machine.command)
        if kept.args is None:
            return f"kernel {kept.kernel} compiles now; it did not: {kept.error}"
        output = run_kernel(command, kept.args)
        report = ExactnessReport()
        program = link_sums(kept.packed.products.values(), kept.target, folder, machine.command)
        with program.start() if program else nullcontext() as sums:
            check_call(kept.packed, kept.call, (*kept.args[:-1], output), kept.where, report, sums)
    same = "the same bits as" if np.array_equal(output, kept.args[-1]) else "another output than"
    return (
        f"kernel {kept.kernel} is right on {machine.describe()} for the arguments that were kept, with {same} "
        f"then; what failed was: {kept.error}"
    )


def disassemble(folder: Path, again: bool = False) -> str:
    """The kernel's machine code; raises BuildError when no objdump for it is installed."""
    kept = load_evidence(folder)
    function = kept.tir if kept.tir is not None and not again else scheduled_kernel(kept.packed, kept.kernel)
    tool = next((path for name in _OBJDUMPS if (path := shutil.which(name))), None)
    if tool is None:
        raise BuildError(f"disassemble: expected one of {', '.join(_OBJDUMPS)}, got none; sudo apt-get install llvm")
    with temporary_folder("replay") as folder:
        link_kernel(kept.kernel, function, kept.target, folder, machine_of(kept.target).command)
        command = [tool, "-d", "--no-show-raw-insn", str(folder / "kernel.o")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{tool}: expected the code of {kept.target.triple}, got: {done.stderr.strip()[-500:]}")
    return done.stdout


def tir_text(folder: Path, again: bool = False) -> str:
    """The kernel's scheduled TIR."""
    kept = load_evidence(folder)
    function = kept.tir if kept.tir is not None and not again else scheduled_kernel(kept.packed, kept.kernel)
    return str(function.script())


def _one_call(kernel: str, function: Any, call: int) -> Program:
    """A program with ``kernel`` at position ``call``, where it was."""
    names = tuple(f"a{i}" for i in range(len(function.params)))
    graph = LiftedGraph(tvm.IRModule({}), names, {}, {})
    return Program(graph, {kernel: function}, (KernelCall(kernel, names, "out"),) * (call + 1), {}, "out")


def _arguments(path: Path, count: int) -> tuple[Array, ...] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        found = tuple(arrays[f"arr_{i}"] for i in range(len(arrays.files)))
    if len(found) != count:
        raise ConfigError(f"{path}: expected {count} arrays, those of the kernel, got {len(found)}; copy it again")
    return found
