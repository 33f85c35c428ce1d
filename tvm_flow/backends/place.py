"""Give every kernel of a program to the first backend of the target that offers to run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm_flow.backends.base import Backend, Gathering, Joining, Kernel, kernels_of
from tvm_flow.backends.cpu.backend import CpuBackend
from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.packed import CPU, Made, PackedProgram, Placement, Refusal
from tvm_flow.backends.regions import joined
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
    return laid_out(*with_regions(program, target, backends))


def laid_out(program: Program, placements: Mapping[str, Placement]) -> PackedProgram:
    """``program``, whose kernels run where ``placements`` has them, its constants laid out for them."""
    products = {name: p.choice for name, p in placements.items() if isinstance(p.choice, Product)}
    maker = _Maker(program)
    calls = tuple(maker.call(call, placements[call.kernel]) for call in program.calls)
    used = {name for call in calls for name in call.args}
    constants = {name: constant for name, constant in maker.constants.items() if name in used}
    return PackedProgram(replace(program, calls=calls, tensors=maker.tensors), constants, products, placements)


def with_regions(
    program: Program, target: TargetSpec, backends: Sequence[Backend]
) -> tuple[Program, dict[str, Placement]]:
    """``program`` with the regions that its backends want, and who runs each kernel; errors of `place`."""
    placements = {kernel.name: _placement(kernel, target, backends) for kernel in kernels_of(program)}
    for backend in backends:
        if isinstance(backend, Joining | Gathering):
            program, placements = joined(program, placements, backend, target)
    return program, placements


class _Maker:
    """Constants as kernels want them, each made once; ``tensors`` and ``constants`` are the program's and these."""

    def __init__(self, program: Program) -> None:
        self.given = program.graph.constants
        self.tensors = dict(program.tensors)
        self.constants: dict[str, Constant] = dict(self.given)
        self.names: dict[Constant, str] = {}

    def call(self, call: KernelCall, placement: Placement) -> KernelCall:
        """``call`` with the arguments that ``placement`` asks for."""
        args = list(call.args)
        for position, layout in placement.layouts.items():
            plain = self.tensors[args[position]]
            spec = TensorSpec(layout.shape(plain.shape), plain.dtype)
            args[position] = self.named(layout.rule, (args[position],), layout.options, spec)
        if placement.arguments:
            args = [self.argument(call, args, argument) for argument in placement.arguments]
        return KernelCall(call.kernel, tuple(args), call.output)

    def argument(self, call: KernelCall, args: list[str], argument: int | Made) -> str:
        """An argument of ``call`` after its layout, or what is made of the plain ones."""
        if isinstance(argument, int):
            return args[argument]
        sources = tuple(call.args[position] for position in argument.positions)
        return self.named(argument.rule, sources, argument.options, TensorSpec(argument.shape, argument.dtype))

    def named(self, rule: str, sources: tuple[str, ...], options: tuple[int, ...], spec: TensorSpec) -> str:
        """The name of what ``rule`` makes of the constants ``sources``."""
        made = Derived(rule, tuple(self.given[source] for source in sources), options)
        if made not in self.names:
            name = made_up(f"{sources[0]}.{rule}_{'x'.join(map(str, options))}", self.tensors)
            self.names[made], self.constants[name], self.tensors[name] = name, made, spec
        return self.names[made]


def pack_weights(program: Program, isa: Isa) -> PackedProgram:
    """``program`` on the CPU alone, its integer products on ``isa``."""
    return place_on(program, TargetSpec("cpu", "", "", isa.features), [CpuBackend(isa)])


def _placement(kernel: Kernel, target: TargetSpec, backends: Sequence[Backend]) -> Placement:
    refusals: list[tuple[str, Refusal]] = []
    for backend in backends:
        answer = backend.offers(kernel, target)
        if not isinstance(answer, Refusal):
            return answer.placement(backend.name, tuple(refusals))
        refusals.append((backend.name, answer))
    said = "; ".join(f"{name}: {refusal.reason} {refusal.remedy}".rstrip() for name, refusal in refusals)
    remedy = "" if any(name == CPU for name, _ in refusals) else "; add cpu to the target's backends"
    raise BuildError(
        f"kernel {kernel.name}: expected a backend of target {target.name} to run it, all refused: "
        f"{said or 'none was asked'}{remedy}"
    )
