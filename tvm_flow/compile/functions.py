"""What a bundle can do, one row for each: how its libraries are made, and how it is run and compared.

A step and its prologue are one row, since they are one program; a decoder is another. A further one (a text encoder)
is a class of its own and an entry of `tvm_flow.compile.command.FUNCTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tvm_flow.backends.place import place
from tvm_flow.check.calls import Members
from tvm_flow.check.follow import FollowedRuns
from tvm_flow.check.machines import Machine
from tvm_flow.check.sampling import CallCheck
from tvm_flow.compile.dump import dump_passes, dump_plan
from tvm_flow.compile.failures import kept_build
from tvm_flow.compile.library import Placed, build_placed
from tvm_flow.compile.measured import measured
from tvm_flow.compile.options import CompileOptions
from tvm_flow.compile.told import Stage, stage_of, told
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import StepGroup
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.lower.partition import partition
from tvm_flow.pack import Contents
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary, StepTables
from tvm_flow.plan.store import WeightStore
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.applied import NO_RECORDS, Records, with_records

Figures = Mapping[str, float | int | None]
Check = TypeVar("Check", bound=FollowedRuns)


@dataclass(frozen=True)
class Source:
    """Graphs of a function as they are compiled: a file of each group, ``names`` of their libraries, and tables.

    Constants join ``weights``.
    """

    function: str
    groups: Sequence[StepGroup]
    graphs: Sequence[Path]
    names: Sequence[str]
    tables: StepTables
    weights: WeightStore


class BundleFunction(Protocol, Generic[Check]):
    """A compiled function."""

    @property
    def libraries(self) -> Sequence[GroupLibrary]:
        """One for each group of equal graphs."""

    @property
    def left_in_float(self) -> tuple[str, ...]:
        """What its graphs keep in float, with the reason."""

    @property
    def members(self) -> Members:
        """The library of every run, by step and branch or chunk; see `tvm_flow.check.calls.members_of`."""

    def placed(self, contents: Contents) -> Contents:
        """``contents`` with this function, still without what it gives for the golden input."""

    def check(self, contents: Contents, compare: CallCheck, steps: int | None) -> Check:
        """Follows a run of ``contents``, of its first ``steps`` (None: all), on the golden input."""

    def result_shape(self, contents: Contents) -> tuple[int, ...]:
        """Of what it gives for the golden input."""

    def golden(self, contents: Contents, check: Check, result: Floats) -> Contents:
        """``contents`` with ``result`` as the golden output."""

    def figures(self, check: Check) -> Figures:
        """What was compared, for the report; raises BitExactError when onnx's evaluation is another."""


@dataclass(frozen=True)
class Job:
    """One compilation: what, for which target, where it is checked, and how."""

    exported: Exported
    target: TargetSpec
    output: Path
    machine: Machine | None
    """None: nothing is to be checked."""
    options: CompileOptions
    records: Records = NO_RECORDS


Builder = Callable[[Job, Path], BundleFunction[Any] | None]
"""Compiles a function of a job's export in a folder; None when the export has none."""


def build_libraries(source: Source, job: Job, work: Path) -> tuple[GroupLibrary, ...]:
    """Lower, compile and link the groups of ``source`` into ``work``; raises BuildError, with evidence of a kernel."""
    words = f"compile {source.function}"
    with told(words, len(source.groups), "group", shown=job.options.progress) as bar:
        libraries = []
        for index in range(len(source.groups)):
            with measured(f"{words}, {source.names[index]}"):
                libraries.append(_build_library(source, index, job, work, stage_of(bar)))
            bar.update()
        return tuple(libraries)


def _build_library(source: Source, index: int, job: Job, work: Path, stage: Stage) -> GroupLibrary:
    group, name, dump = source.groups[index], source.names[index], job.options.debug_dump
    try:
        with interrupts_kept():
            if dump is not None:
                dump_passes(source.graphs[index], job.target, dump / name)
            stage("kernels")
            packed, tuning = with_records(place(partition(group.graph), job.target), job.target, job.records)
            placed, path = Placed(group, packed, tuning), work / f"{name}.so"
            library = build_placed(placed, source.tables, job.target, source.weights, path, stage)
    except BuildError as error:
        raise kept_build(error, group, job.target, job.output) from error
    if dump is not None:
        dump_plan(library, dump / name)
    return library
