"""The static plan of a step group: every tensor's place and every kernel call, as plain tables."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tvm_flow.backends.cpu.packing import PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.program import Program, TensorSpec
from tvm_flow.plan.arena import Lifetime, liveness_bound, place_apart, plan_arena
from tvm_flow.plan.folds import FoldRow
from tvm_flow.plan.tables import ConstantTables

DTYPES = {"float32": (2, 32), "int8": (0, 8), "int32": (0, 32), "uint8": (1, 8), "int64": (0, 64)}
"""DLPack type code and bits of the element types that a plan can hold."""
MAX_DIMS = 8


@dataclass(frozen=True)
class PlacedTensor:
    """A tensor at ``offset`` bytes of ``space`` (arena, weights, step or prompt)."""

    name: str
    spec: TensorSpec
    space: str
    offset: int


@dataclass(frozen=True)
class PlannedCall:
    """Kernel index and the indices of its tensors; the last one is written."""

    kernel: int
    args: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """All tables of a library; see tvm_flow_library.h. The first ``prologue_calls`` calls are the prologue."""

    tensors: tuple[PlacedTensor, ...]
    kernels: tuple[str, ...]
    calls: tuple[PlannedCall, ...]
    folds: tuple[FoldRow, ...]
    inputs: tuple[int, ...]
    output: int
    arena_bytes: int
    liveness_bytes: int
    step_bytes: int
    weights_bytes: int
    step_floats: int
    variant_floats: int
    prompt_bytes: int = 0
    prologue_calls: int = 0


def tensor_bytes(spec: TensorSpec) -> int:
    """Size of a tensor; raises BuildError for a type or rank that a plan cannot hold."""
    if spec.dtype not in DTYPES:
        raise BuildError(f"tensor {spec}: expected one of {sorted(DTYPES)}, got {spec.dtype}; cast it in the graph")
    if len(spec.shape) > MAX_DIMS:
        raise BuildError(
            f"tensor {spec}: expected at most {MAX_DIMS} axes, got {len(spec.shape)}; reshape it in the graph"
        )
    return prod(spec.shape) * DTYPES[spec.dtype][1] // 8


def make_plan(packed: PackedProgram, tables: ConstantTables, weights_bytes: int, step_floats: int) -> Plan:
    """Place every tensor of ``packed`` and number its calls."""
    program = packed.program
    lifetimes = tensor_lifetimes(packed)
    offsets, arena_bytes = plan_arena(lifetimes)
    kept, prompt_bytes = place_apart({name: tensor_bytes(program.tensors[name]) for name in program.kept()})
    places = {name: ("arena", offset) for name, offset in offsets.items()} | tables.places
    places |= {name: ("prompt", offset) for name, offset in kept.items()}
    names = [*program.graph.inputs, *(n for n in places if n not in program.graph.inputs)]
    index = {name: i for i, name in enumerate(names)}
    kernels = tuple(dict.fromkeys(call.kernel for call in program.calls))
    return Plan(
        tensors=tuple(PlacedTensor(n, program.tensors[n], *places[n]) for n in names),
        kernels=kernels,
        calls=tuple(
            PlannedCall(kernels.index(call.kernel), tuple(index[n] for n in (*call.args, call.output)))
            for call in program.calls
        ),
        folds=tuple(tables.folds),
        inputs=tuple(index[n] for n in program.graph.inputs),
        output=index[program.output],
        arena_bytes=arena_bytes,
        liveness_bytes=liveness_bound(lifetimes),
        step_bytes=tables.step_bytes,
        weights_bytes=weights_bytes,
        step_floats=step_floats,
        variant_floats=len(tables.variant_values()[0]),
        prompt_bytes=prompt_bytes,
        prologue_calls=program.prologue,
    )


def tensor_lifetimes(packed: PackedProgram) -> dict[str, Lifetime]:
    """When each tensor of the arena is needed: an input from before the first call of the part that reads it first.

    The parts, prologue and step, run one after the other; a step without a prologue before it needs nothing of that,
    because inputs are written before each part and what the prologue hands over is not in the arena. The output is
    needed to after the last call.
    """
    program = packed.program
    kept = set(program.kept())
    first = {name: _start(program, name) for name in program.graph.inputs}
    last = dict(first)
    for position, call in enumerate(program.calls):
        if call.output not in kept:
            first.setdefault(call.output, position)
        for name in (*call.args, call.output):
            if name in first:
                last[name] = position
    last[program.output] = len(program.calls)
    return {name: Lifetime(tensor_bytes(program.tensors[name]), first[name], last[name]) for name in first}


def _start(program: Program, name: str) -> int:
    """The first call of the part that reads an input first; of the step for one that nothing reads."""
    early = any(name in call.args for call in program.calls[: program.prologue])
    return 0 if early else program.prologue
