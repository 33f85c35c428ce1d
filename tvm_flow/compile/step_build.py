"""The steps of an export as a function of its bundle: graphs grouped, one library for each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tvm_flow.check.calls import ExactnessReport, Members, members_of
from tvm_flow.check.sampling import CallCheck
from tvm_flow.check.trajectory import TrajectoryCheck, figures
from tvm_flow.compile.functions import Figures, Job, Source, build_libraries
from tvm_flow.export import Exported
from tvm_flow.export.graph import MASKED
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.pack import Contents, Golden, Group, Prompt, Variant
from tvm_flow.pack.contents import NOT_COMPUTED
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.weights_file import FIRST_ALIGNMENT
from tvm_flow.sampler import SamplerConfig
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.versions import compiler_versions

GOLDEN_SEED = 20260101


@dataclass(frozen=True)
class Steps:
    """See `tvm_flow.compile.functions.BundleFunction`."""

    exported: Exported
    libraries: tuple[GroupLibrary, ...]
    weights: WeightStore
    left_in_float: tuple[str, ...]

    @property
    def members(self) -> Members:
        return members_of(self.libraries)

    def placed(self, contents: Contents) -> Contents:
        return contents

    def check(self, contents: Contents, compare: CallCheck, steps: int | None) -> TrajectoryCheck:
        return TrajectoryCheck(self.libraries, contents, ExactnessReport(), compare, steps)

    def result_shape(self, contents: Contents) -> tuple[int, ...]:
        return contents.latent_shape

    def golden(self, contents: Contents, check: TrajectoryCheck, result: Floats) -> Contents:
        steps = check.steps if check.stops_early else 0
        return replace(contents, golden=replace(contents.golden, latents=result, steps=steps))

    def figures(self, check: TrajectoryCheck) -> Figures:
        return figures(check, check.agreement_db(self.exported) if check.compare.chosen is None else None)


def build_steps(job: Job, work: Path) -> Steps:
    """Import the step graphs, and compile every group of equal ones into ``work``.

    Raises ImportGraphError or BuildError.
    """
    exported = job.exported
    weights = WeightStore(work / "weights.bin", _header_room(exported))
    with interrupts_kept():
        groups = import_steps(exported.graphs, job.options.progress)
    firsts = [group.members[0] for group in groups]
    graphs = [exported.graphs[step][branch] for step, branch in firsts]
    names = [f"group{index}" for index in range(len(groups))]
    libraries = build_libraries(Source("steps", groups, graphs, names, exported, weights), job, work)
    weights.finish()
    left_in_float = tuple(line for group in groups for line in group.graph.left_in_float)
    return Steps(exported, libraries, weights, left_in_float)


def _header_room(exported: Exported) -> int:
    """Bytes for names of tensors: a 512th of the weights is enough for models of matrices; else values are moved."""
    size = sum(path.stat().st_size for path in exported.folder.glob("*.bin"))
    return -(-max(size // 512, 1) // FIRST_ALIGNMENT) * FIRST_ALIGNMENT


def golden_input(exported: Exported) -> Golden:
    """The exported caption and seeded noise; the latents are still to be computed."""
    rng = np.random.default_rng(GOLDEN_SEED)
    noise = rng.standard_normal(exported.latent).astype(np.float32)
    length, tokens = exported.caption_length, exported.text[0]
    mask = np.where(np.arange(tokens) < length, 0.0, MASKED).astype(np.float32)
    cond, uncond = Prompt(exported.caption, mask), Prompt(exported.null_caption, mask)
    return Golden(noise, cond, uncond, np.zeros_like(noise))


def unchecked(contents: Contents) -> Contents:
    """``contents`` for which nobody computed an output."""
    return replace(contents, golden=replace(contents.golden, steps=NOT_COMPUTED))


def bundle_contents(
    exported: Exported, target: TargetSpec, libraries: Sequence[GroupLibrary], weights: WeightStore, golden: Golden
) -> Contents:
    steps, branches = len(exported.graphs), len(exported.graphs[0])
    sampler = SamplerConfig.from_dict(exported.sampler)
    variants = {
        member: Variant(index, values)
        for index, library in enumerate(libraries)
        for member, values in zip(library.members, library.variant_values, strict=True)
    }
    return Contents(
        weights=weights.path or weights.file,
        weights_first=weights.first,
        groups=[Group(lib.path.stem, lib.path, lib.plan.variant_floats) for lib in libraries],
        sampler=exported.sampler,
        timesteps=[float(t) for t in exported.timesteps],
        updates=exported.updates,
        cfg_scale=float(sampler.cfg_scale),
        guided_channels=sampler.guided_of(exported.latent[0]),
        output_channels=exported.output_channels,
        latent_shape=exported.latent,
        text_tokens=exported.text[0],
        text_channels=exported.text[1],
        step_records=exported.step_records,
        variants=[[variants[step, branch] for branch in range(branches)] for step in range(steps)],
        target=target.describe(),
        provenance=exported.provenance | {"model": exported.model, "compilers": compiler_versions()},
        golden=golden,
    )
