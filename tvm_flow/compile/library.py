"""One step group to one shared library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.cpu.codegen import compile_object, scheduled_kernels
from tvm_flow.backends.cpu.packing import pack_weights
from tvm_flow.importer.step_groups import StepGroup
from tvm_flow.lower.partition import partition
from tvm_flow.plan.emit import emit_c
from tvm_flow.plan.group import GroupLibrary, StepTables
from tvm_flow.plan.static_plan import Plan, make_plan
from tvm_flow.plan.steady import check_prologue
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.tables import encode_constants
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import link_library


def plan_source(plan: Plan, target: TargetSpec, name: str, linked: str = "") -> str:
    """C of the plan of group ``name``; see `emit_c` for ``linked``."""
    features = " ".join(sorted(target.features))
    return emit_c(plan, f"{target.triple} {target.cpu}", features, f"{name}_", linked)


def build_library(
    group: StepGroup, exported: StepTables, target: TargetSpec, weights: WeightStore, folder: Path, name: str
) -> GroupLibrary:
    """Lower, compile and link ``group`` into ``folder/name.so``; its shared constants join ``weights``.

    Raises BuildError when a kernel cannot be compiled, the library cannot be linked, or a constant of the prologue
    changes with the step.
    """
    packed = pack_weights(partition(group.graph), choose_isa(target.features))
    steps = [step for step, _ in group.members]
    tables = encode_constants(packed.constants, group.given, steps, exported.folds, exported.step_records, weights)
    check_prologue(packed, tables, group.members, group.given)
    plan = make_plan(packed, tables, weights.size, exported.step_records.shape[1])
    kernels = folder / f"{name}.o"
    compile_object(_renamed(scheduled_kernels(packed), f"{name}_"), target.tvm(), kernels)
    library = folder / f"{name}.so"
    link_library(kernels, plan_source(plan, target, name), target.zig_triple, library, target.c_flags)
    return GroupLibrary(library, kernels, packed, plan, group.members, tuple(tables.variant_values()), group.given)


def _renamed(functions: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Groups have kernels of equal names, and a static program holds several groups."""
    return {prefix + name: f.with_attr("global_symbol", prefix + name) for name, f in functions.items()}
