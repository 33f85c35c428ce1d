"""Give every kernel of a program to the first backend of the target that offers to run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm_flow.backends.base import Backend, Kernel
from tvm_flow.backends.cpu.backend import CpuBackend
from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.packed import PackedProgram, Placement, Refusal
from tvm_flow.backends.registry import backend_named
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Constant, Derived
from tvm_flow.graph.names import made_up
from tvm_flow.graph.program import KernelCall, Program, TensorSpec
from tvm_flow.target.spec import TargetSpec


def place(program: Program, target: TargetSpec) -> PackedProgram:
    """``program`` on the backends of ``target``, its constants laid out for them.

    Raises ConfigError for a backend that is not known, BuildError naming a kernel that every backend refuses, with
    what each of them said.
    """
    return place_on(program, target, [backend_named(name) for name in target.backends])


def place_on(program: Program, target: TargetSpec, backends: Sequence[Backend]) -> PackedProgram:
    """The same for ``backends`` in order of preference."""
    placements = {kernel.name: _placement(kernel, target, backends) for kernel in _kernels(program)}
    products = {name: p.choice for name, p in placements.items() if isinstance(p.choice, Product)}
    constants: dict[str, Constant] = dict(program.graph.constants)
    tensors, calls = dict(program.tensors), []
    names: dict[Constant, str] = {}
    for call in program.calls:
        args = list(call.args)
        for position, layout in placements[call.kernel].layouts.items():
            plain = args[position]
            packed = Derived(layout.rule, (program.graph.constants[plain],), layout.options)
            if packed not in names:
                names[packed] = made_up(f"{plain}.{layout.rule}_{'x'.join(map(str, layout.options))}", tensors)
                constants[names[packed]] = packed
                tensors[names[packed]] = TensorSpec(layout.shape(tensors[plain].shape), tensors[plain].dtype)
            args[position] = names[packed]
        calls.append(KernelCall(call.kernel, tuple(args), call.output))
    used = {name for call in calls for name in call.args}
    constants = {name: constant for name, constant in constants.items() if name in used}
    return PackedProgram(replace(program, calls=tuple(calls), tensors=tensors), constants, products, placements)


def pack_weights(program: Program, isa: Isa) -> PackedProgram:
    """``program`` on the CPU alone, its integer products on ``isa``."""
    return place_on(program, TargetSpec("cpu", "", "", isa.features), [CpuBackend(isa)])


def _kernels(program: Program) -> list[Kernel]:
    """Every kernel that is called, an argument being constant when it is one at every call."""
    constant: dict[str, tuple[bool, ...]] = {}
    for call in program.calls:
        here = tuple(name in program.graph.constants for name in call.args)
        before = constant.get(call.kernel, here)
        constant[call.kernel] = tuple(a and b for a, b in zip(before, here, strict=True))
    return [Kernel(name, program.kernels[name], flags) for name, flags in constant.items()]


def _placement(kernel: Kernel, target: TargetSpec, backends: Sequence[Backend]) -> Placement:
    refusals: list[tuple[str, Refusal]] = []
    for backend in backends:
        answer = backend.offers(kernel, target)
        if not isinstance(answer, Refusal):
            return Placement(backend.name, answer.implementation, answer.choice, answer.layouts, tuple(refusals))
        refusals.append((backend.name, answer))
    said = "; ".join(f"{name}: {refusal.reason} {refusal.remedy}".rstrip() for name, refusal in refusals)
    raise BuildError(
        f"kernel {kernel.name}: expected a backend of target {target.name} to run it, all refused: "
        f"{said or 'none was asked'}; add cpu to the target's backends"
    )
