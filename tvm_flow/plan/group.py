"""A compiled step group: its files, what it means, and the numbers that its variants supply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tvm_flow.backends.base import Artifacts
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.graph.constants import Array
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.static_plan import Plan
from tvm_flow.quantize.quantized import Fold


class StepTables(Protocol):
    """How the constants of an export depend on time; see `tvm_flow.export.Exported`."""

    @property
    def folds(self) -> Mapping[str, Fold]:
        """By initializer."""

    @property
    def step_records(self) -> Floats:
        """float32 [steps, R]."""


class Tuning(Protocol):
    """What a kernel got of what was measured of it; see `tvm_flow.tune.applied.Got`."""

    @property
    def tuned(self) -> bool:
        """It is not scheduled by default."""

    @property
    def why(self) -> str:
        """In words."""

    @property
    def modelled(self) -> bool:
        """No measurement says so, but a model."""


@dataclass(frozen=True)
class GroupLibrary:
    """A linked library, what it means, and the numbers that each of its variants supplies."""

    path: Path
    artifacts: Artifacts
    """The object files that it was linked from, and what of them its plan names."""
    packed: PackedProgram
    plan: Plan
    members: tuple[tuple[int, int], ...]
    variant_values: tuple[Floats, ...]
    given: tuple[Mapping[str, Array], ...]
    """Initializers of each member's graph."""
    tuning: Mapping[str, Tuning] = field(default_factory=dict)
    """Of kernels that have been measured: whether they are tuned, and why."""
