"""One step group to one shared library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tvm_flow.build.emit import emit_c
from tvm_flow.build.folds import Floats
from tvm_flow.build.link import link_library
from tvm_flow.build.plan import Plan, make_plan
from tvm_flow.build.prologue import check_prologue
from tvm_flow.build.store import WeightStore
from tvm_flow.build.tables import encode_constants
from tvm_flow.build.target import TargetSpec
from tvm_flow.importer.constants import Array
from tvm_flow.importer.step_groups import StepGroup
from tvm_flow.kernels import choose_isa
from tvm_flow.lower.compile import compile_object, scheduled_kernels
from tvm_flow.lower.packing import PackedProgram, pack_weights
from tvm_flow.lower.partition import partition
from tvm_flow.quantize.quantized import Fold


class StepTables(Protocol):
    """How the constants of an export depend on time; see `tvm_flow.export.Exported`."""

    @property
    def folds(self) -> Mapping[str, Fold]:
        """By initializer."""

    @property
    def step_records(self) -> Floats:
        """float32 [steps, R]."""


@dataclass(frozen=True)
class GroupLibrary:
    """A linked library, what it means, and the numbers that each of its variants supplies."""

    path: Path
    kernels: Path
    """The object file that it was linked from."""
    packed: PackedProgram
    plan: Plan
    members: tuple[tuple[int, int], ...]
    variant_values: tuple[Floats, ...]
    given: tuple[Mapping[str, Array], ...]
    """Initializers of each member's graph."""


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
