"""One step group to one shared library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tvm_flow.backends.base import Artifacts, CompileJob
from tvm_flow.backends.packed import PackedProgram, Segment
from tvm_flow.backends.place import place
from tvm_flow.backends.registry import backend_named
from tvm_flow.compile.told import Stage, nothing
from tvm_flow.importer.step_groups import StepGroup
from tvm_flow.lower.partition import partition
from tvm_flow.plan.emit import emit_c
from tvm_flow.plan.group import GroupLibrary, StepTables, Tuning
from tvm_flow.plan.static_plan import Plan, make_plan
from tvm_flow.plan.steady import check_prologue
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.tables import encode_constants
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import link_library


def plan_source(plan: Plan, artifacts: Artifacts, target: TargetSpec, name: str, linked: str = "") -> str:
    """C of the plan of group ``name``; see `emit_c` for ``linked``."""
    features = " ".join(sorted(target.features))
    return emit_c(plan, f"{target.triple} {target.cpu}", features, f"{name}_", linked, artifacts.payloads)


def build_library(
    group: StepGroup,
    exported: StepTables,
    target: TargetSpec,
    weights: WeightStore,
    library: Path,
    stage: Stage = nothing,
) -> GroupLibrary:
    """Lower, compile and link ``group`` into ``library``, whose name begins its symbols; its shared constants join
    ``weights``.

    Raises BuildError when a kernel cannot be compiled, the library cannot be linked, or a constant of the prologue
    changes with the step.
    """
    stage("kernels")
    placed = Placed(group, place(partition(group.graph), target))
    return build_placed(placed, exported, target, weights, library, stage)


@dataclass(frozen=True)
class Placed:
    """A step group on the backends of a target, and what its kernels got of what was measured."""

    group: StepGroup
    packed: PackedProgram
    tuning: Mapping[str, Tuning] = field(default_factory=dict)


def build_placed(
    placed: Placed,
    exported: StepTables,
    target: TargetSpec,
    weights: WeightStore,
    library: Path,
    stage: Stage = nothing,
) -> GroupLibrary:
    """`build_library` of a program whose kernels have their places."""
    group, packed, folder, name = placed.group, placed.packed, library.parent, library.stem
    stage(f"tables of {len(group.members)} variants")
    tables = encode_constants(
        packed.constants, group.given, group.members, exported.folds, exported.step_records, weights
    )
    check_prologue(packed, tables, group.members, group.given)
    plan = make_plan(packed, tables, weights.size, exported.step_records.shape[1])
    stage(f"machine code of {len(packed.program.kernels)} kernels")
    artifacts = compile_segments(packed, plan, target, folder, name)
    stage("link")
    source = plan_source(plan, artifacts, target, name)
    link_library(artifacts.objects, source, target.zig_triple, library, target.c_flags)
    return GroupLibrary(
        library, artifacts, packed, plan, group.members, tuple(tables.variant_values()), group.given, placed.tuning
    )


def compile_segments(packed: PackedProgram, plan: Plan, target: TargetSpec, folder: Path, name: str) -> Artifacts:
    """What the backends of ``packed`` make of their segments, together; raises BuildError naming a kernel."""
    made = []
    for row, device in enumerate(plan.devices):
        segments = {
            index: Segment(device.name, segment.first_call, segment.num_calls)
            for index, segment in enumerate(plan.segments)
            if segment.device == row and segment.num_calls
        }
        if segments:
            tensors = {i: plan.calls[i].args for segment in segments.values() for i in segment.calls}
            spaces = {i: tuple(plan.tensors[arg].space for arg in args) for i, args in tensors.items()}
            job = CompileJob(packed, target, segments, tensors, f"{name}_", spaces)
            made.append(backend_named(device.name).compile(job, folder))
    return Artifacts(
        tuple(path for artifacts in made for path in artifacts.objects),
        {kernel: symbol for artifacts in made for kernel, symbol in artifacts.kernels.items()},
        {row: payload for artifacts in made for row, payload in artifacts.payloads.items()},
    )
