"""The static plan of a step group: every tensor's place and every kernel call, as plain tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.program import Program, TensorSpec
from tvm_flow.plan.arena import Lifetime, liveness_bound, place_apart, plan_arena
from tvm_flow.plan.borders import Spread, SpreadSegment, spread
from tvm_flow.plan.folds import FoldRow
from tvm_flow.plan.tables import ConstantTables

DTYPES = {
    **{"float32": (2, 32), "int8": (0, 8), "int16": (0, 16), "int32": (0, 32), "int64": (0, 64)},
    "uint8": (1, 8),
}
"""DLPack type code and bits of the element types that a plan can hold."""
MAX_DIMS = 8


@dataclass(frozen=True)
class PlacedTensor:
    """A tensor at ``offset`` bytes of ``space`` (arena, weights, step or prompt) of the device in row ``device``."""

    name: str
    spec: TensorSpec
    space: str
    offset: int
    device: int = 0


@dataclass(frozen=True)
class PlannedCall:
    """Kernel index and the indices of its tensors; the last one is written."""

    kernel: int
    args: tuple[int, ...]


@dataclass(frozen=True)
class DeviceRow:
    """A device that the plan needs, and the bytes of its own arena and of a branch's prompt."""

    name: str
    arena_bytes: int
    prompt_bytes: int


@dataclass(frozen=True)
class SegmentRow:
    """Calls of one device; before them ``copies``: tensors to be copied, from and to."""

    device: int
    first_call: int
    num_calls: int
    copies: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """The call after the last one."""
        return self.first_call + self.num_calls


@dataclass(frozen=True)
class Plan:
    """All tables of a library; see tvm_flow_library.h. The first ``prologue_calls`` calls are the prologue.

    ``arena_bytes``, ``liveness_bytes`` and ``prompt_bytes`` are the CPU's; ``devices`` has those of the others.
    ``prompt_bytes`` is one branch's, as in the library's descriptor; a handle takes it for each branch.
    """

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
    devices: tuple[DeviceRow, ...] = ()
    segments: tuple[SegmentRow, ...] = ()


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
    """Place every tensor of ``packed`` on its devices and number its calls.

    Raises BuildError for an output that no call of the step writes: the runtime would read what lay there before.
    """
    _require_written(packed.program)
    program, where = packed.program, spread(packed)
    spaces = [_spaces(packed, where, device) for device in where.devices]
    constants = [_constants(packed, where, device, tables) for device in where.devices]
    places = [space.places | named for space, named in zip(spaces, constants, strict=True)]
    first = [(0, name) for name in program.graph.inputs]
    keys = [*first, *((row, n) for row, named in enumerate(places) for n in named if (row, n) not in first)]
    index = {key: i for i, key in enumerate(keys)}
    kernels = tuple(dict.fromkeys(call.kernel for call in program.calls))
    return Plan(
        tensors=tuple(PlacedTensor(n, program.tensors[n], *places[row][n], row) for row, n in keys),
        kernels=kernels,
        calls=tuple(
            PlannedCall(
                kernels.index(call.kernel),
                tuple(index[where.devices.index(packed.device_of(call.kernel)), n] for n in (*call.args, call.output)),
            )
            for call in program.calls
        ),
        folds=tuple(tables.folds),
        inputs=tuple(index[0, n] for n in program.graph.inputs),
        output=index[0, program.output],
        arena_bytes=spaces[0].arena_bytes,
        liveness_bytes=spaces[0].liveness_bytes,
        step_bytes=tables.step_bytes,
        weights_bytes=weights_bytes,
        step_floats=step_floats,
        variant_floats=len(tables.variant_values()[0]),
        prompt_bytes=spaces[0].prompt_bytes,
        prologue_calls=program.prologue,
        devices=tuple(
            DeviceRow(name, space.arena_bytes, space.prompt_bytes)
            for name, space in zip(where.devices, spaces, strict=True)
        ),
        segments=tuple(_segment_row(part, where, index) for part in where.segments),
    )


def _require_written(program: Program) -> None:
    written = {call.output for call in program.calls[program.prologue :]}
    if missing := [name for name in program.outputs if name not in written]:
        raise BuildError(
            f"output {missing[0]}: expected a kernel call of the step that writes it, got none; report this graph"
        )


@dataclass(frozen=True)
class _Spaces:
    """What lies in a device's own memory."""

    places: dict[str, tuple[str, int]]
    arena_bytes: int
    liveness_bytes: int
    prompt_bytes: int


def _spaces(packed: PackedProgram, where: Spread, device: str) -> _Spaces:
    program, lifetimes = packed.program, lifetimes_on(packed, where, device)
    offsets, arena_bytes = plan_arena(lifetimes)
    handed = [name for name in program.kept() if where.home[name] == device]
    kept, prompt_bytes = place_apart({name: tensor_bytes(program.tensors[name]) for name in handed})
    places = {name: ("arena", offset) for name, offset in offsets.items()}
    places |= {name: ("prompt", offset) for name, offset in kept.items()}
    return _Spaces(places, arena_bytes, liveness_bound(lifetimes), prompt_bytes)


def _constants(packed: PackedProgram, where: Spread, device: str, tables: ConstantTables) -> dict[str, tuple[str, int]]:
    """Places of the constants that calls of ``device`` read."""
    calls = packed.program.calls
    parts = (part.segment for part in where.segments if part.segment.device == device)
    read = {name for segment in parts for position in segment.calls for name in calls[position].args}
    return {name: place for name, place in tables.places.items() if name in read}


def _segment_row(part: SpreadSegment, where: Spread, index: Mapping[tuple[int, str], int]) -> SegmentRow:
    row = where.devices.index
    copies = tuple((index[row(c.source), c.tensor], index[row(c.target), c.tensor]) for c in part.copies)
    return SegmentRow(row(part.segment.device), part.segment.first, part.segment.count, copies)


def tensor_lifetimes(packed: PackedProgram) -> dict[str, Lifetime]:
    """`lifetimes_on` of the CPU."""
    return lifetimes_on(packed, spread(packed), CPU)


def lifetimes_on(packed: PackedProgram, where: Spread, device: str) -> dict[str, Lifetime]:
    """When each tensor of a device's arena is needed: an input from before the first call of the part that reads it.

    The parts, prologue and step, run one after the other; a step without a prologue before it needs nothing of that,
    because inputs are written before each part and what the prologue hands over is not in the arena. A copy is needed
    from the first call of its segment on, and what it is made from until then. Outputs are needed on the CPU to after
    the last call.
    """
    program = packed.program
    kept = {name for name in program.kept() if where.home[name] == device}
    first = {name: _start(program, name) for name in program.graph.inputs} if device == CPU else {}
    last = dict(first)

    def needed(name: str, position: int) -> None:
        if name in first:
            last[name] = max(position, last.get(name, position))

    for part in where.segments:
        for copy in part.copies:
            if copy.target == device:
                first.setdefault(copy.tensor, part.segment.first)
            if device in (copy.source, copy.target):
                needed(copy.tensor, part.segment.first)
        for position in part.segment.calls if part.segment.device == device else ():
            call = program.calls[position]
            if call.output not in kept:
                first.setdefault(call.output, position)
            for name in (*call.args, call.output):
                needed(name, position)
    if device == CPU:
        last |= dict.fromkeys(program.outputs, len(program.calls))
    return {name: Lifetime(tensor_bytes(program.tensors[name]), first[name], last[name]) for name in first}


def _start(program: Program, name: str) -> int:
    """The first call of the part that reads an input first; of the step for one that nothing reads."""
    early = any(name in call.args for call in program.calls[: program.prologue])
    return 0 if early else program.prologue
