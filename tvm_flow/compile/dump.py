"""``compile --debug-dump DIR``: a library's module after each pass of `tvm_flow.lower.passes`, each written at once.

    DIR/group0/00_import.txt ... 02_canonicalize.txt     Relax
              /03_partition/KERNEL.txt, calls.txt        Relax of every kernel, and the calls
              /04_pack.txt                               who runs each kernel, and how its constants lie
              /05_legalize/KERNEL.txt ... 09_schedule    TIR of every kernel
              /10_assembly/KERNEL.txt                    of the target
              /11_plan.txt                               tensors with their places, segments, calls, folds

The passes are repeated for it, so that a compilation without it pays nothing. It replaces an earlier dump whole.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from tvm_flow.artifact import write_bytes
from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.backends.place import place
from tvm_flow.check.kernels import assembly, scheduled_kernel
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.graph.program import Program
from tvm_flow.lower.legalize import call_once
from tvm_flow.lower.partition import partition
from tvm_flow.lower.passes import NAMES, graph_after_each, kernel_after_each
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.static_plan import Plan, tensor_bytes
from tvm_flow.scratch import sweep
from tvm_flow.target.spec import TargetSpec


def clear_dump(folder: Path) -> None:
    """Remove an earlier dump from ``folder``; raises ConfigError when anything else lies there."""
    names = {f"{index:02}_{name}" for index, name in enumerate(NAMES)}
    before = list(folder.iterdir()) if folder.exists() else []
    for path in before:
        sweep(path)  # a killed command may have left the file that it was writing
    for path in before:
        if path.is_symlink() or not path.is_dir() or not {part.stem for part in path.iterdir()} <= names:
            raise ConfigError(
                f"{folder}: expected an empty folder or an earlier dump, got {path.name} in it; choose another folder"
            )
    for path in before:
        shutil.rmtree(path)


def dump_passes(graph_file: Path, target: TargetSpec, folder: Path) -> None:
    """Everything up to the assembly of the kernels of ``graph_file``, into ``folder``; errors as the passes have."""
    for name, graph in graph_after_each(graph_file):
        _write(folder, name, graph.module.script())
    program = partition(graph)
    _write(folder, "partition", calls_in_words(program), "calls")
    for kernel, function in program.kernels.items():
        _write(folder, "partition", function.script(), kernel)
    packed = place(program, target)
    _write(folder, "pack", _packing_in_words(packed))
    for kernel in packed.kernels_of(CPU):
        _dump_kernel(packed, kernel, packed.program.kernels[kernel], target, folder)


def dump_plan(library: GroupLibrary, folder: Path) -> None:
    """The plan of ``library`` in words."""
    _write(folder, "plan", plan_in_words(library.plan))


def calls_in_words(program: Program) -> str:
    """One line for each call of ``program``, those of the prologue first."""
    lines = [f"{len(program.calls)} calls of {len(program.kernels)} kernels, {program.prologue} in the prologue"]
    for index, call in enumerate(program.calls):
        spec = program.tensors[call.output]
        lines.append(f"{index:5} {call.kernel}({', '.join(call.args)}) -> {call.output} {spec.dtype} {spec.shape}")
    return "\n".join(lines)


def plan_in_words(plan: Plan) -> str:
    """Spaces, tensors with their places, calls and folds of ``plan``."""
    spaces = ("arena", "step", "prompt", "weights")
    lines = [f"{space}: {getattr(plan, f'{space}_bytes')} bytes" for space in spaces]
    lines.append(f"the arena needs {plan.liveness_bytes} bytes at least; {plan.variant_floats} floats of a variant")
    for index, tensor in enumerate(plan.tensors):
        size = tensor_bytes(tensor.spec)
        role = " input" if index in plan.inputs else " output" if index == plan.output else ""
        place = f"{plan.devices[tensor.device].name} {tensor.space} {tensor.offset}..{tensor.offset + size}"
        lines.append(f"tensor {index:5} {place} {tensor.spec.dtype} {tensor.spec.shape} {tensor.name}{role}")
    for index, segment in enumerate(plan.segments):
        calls = f"calls {segment.first_call}..{segment.end}"
        lines.append(f"segment {index:5} {plan.devices[segment.device].name} {calls} copies {list(segment.copies)}")
    for index, call in enumerate(plan.calls):
        part = "prologue" if index < plan.prologue_calls else "step"
        *inputs, output = call.args
        lines.append(f"call {index:5} {part} {plan.kernels[call.kernel]} {inputs} -> {output}")
    lines += [f"fold {index:5} {fold}" for index, fold in enumerate(plan.folds)]
    return "\n".join(lines)


def _packing_in_words(packed: PackedProgram) -> str:
    lines = []
    for kernel, placement in packed.placements.items():
        lines.append(f"{kernel}: {placement.device}: {placement.implementation} {placement.choice or ''}".rstrip())
        lines += [f"  argument {position}: {layout}" for position, layout in placement.layouts.items()]
        lines += [f"  refused by {name}: {refusal.reason}" for name, refusal in placement.refusals]
    return "\n".join(lines)


def _dump_kernel(packed: PackedProgram, kernel: str, function: object, target: TargetSpec, folder: Path) -> None:
    with suppress(Exception):  # a product with a kernel of its own need not be one that TVM can lower
        for name, module in kernel_after_each(call_once(function, kernel)):
            _write(folder, name, module.script(), kernel)
    scheduled = scheduled_kernel(packed, kernel)
    _write(folder, "schedule", scheduled.script(), kernel)
    try:
        _write(folder, "assembly", assembly(kernel, scheduled, target), kernel)
    except Exception as error:
        raise BuildError(f"kernel {kernel}: TVM refused it for {target.tvm()}: {error}; report this graph") from error


def _write(folder: Path, name: str, text: str, kernel: str = "") -> None:
    numbered = f"{NAMES.index(name):02}_{name}"
    path = folder / numbered / f"{kernel}.txt" if kernel else folder / f"{numbered}.txt"
    write_bytes(path, (text.rstrip() + "\n").encode())
