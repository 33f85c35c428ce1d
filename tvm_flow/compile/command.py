"""The compile command: step graphs to a bundle that has been run and compared before it is written.

1. import every step graph and group the equal ones;
2. lower, compile and link one library per group;
3. pack a trial bundle in a temporary folder and run a golden input through all its steps, every kernel call compared
   with the integer reference, every tensor it reads with what the program last wrote there;
4. only then write the bundle, with that input and output as its golden pair.

With ``emit="static"`` it has the archives of `tvm_flow.compile.static` too, and a program linked from them verified it.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tvm_flow.artifact import is_current, make_stamp, write_stamp
from tvm_flow.check.calls import ExactnessReport, members_of
from tvm_flow.check.emulator import TRACE_PROGRAM, Emulator, check_emulated, find_emulator
from tvm_flow.check.sampling import choose_calls
from tvm_flow.check.sums import link_sums
from tvm_flow.check.trajectory import TrajectoryCheck, figures
from tvm_flow.check.trial import check_bundle
from tvm_flow.compile.decoder_build import build_decoder, with_decoder
from tvm_flow.compile.kernel_lines import kernel_lines
from tvm_flow.compile.library import build_library
from tvm_flow.compile.static import check_emit, check_static, link_static, static_files
from tvm_flow.errors import BundleError
from tvm_flow.export import Exported
from tvm_flow.export.graph import MASKED
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.pack import Contents, Golden, Group, Prompt, Variant, read_manifest, write_bundle
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.store import WeightStore
from tvm_flow.sampler import SamplerConfig, require_tables_of
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.versions import compiler_versions

GOLDEN_SEED = 20260101


@dataclass(frozen=True)
class Compiled:
    """A written bundle and what was measured while building it."""

    bundle: Path
    groups: int
    exactness: dict[str, Any]
    left_in_float: tuple[str, ...]
    arena_bytes: int
    liveness_bytes: int
    prompt_bytes: int = 0
    """What one branch keeps for all steps of a prompt, beside the arena."""
    checked_on: str = "this machine"
    decoder: dict[str, Any] | None = None
    """What was compared of the decoder; None without one."""
    kernels: tuple[str, ...] = ()
    """What products, attention and rows run on, and what is slow; see `tvm_flow.compile.kernel_lines`."""


def compile_bundle(
    exported: Exported,
    target: TargetSpec,
    output: Path,
    threads: int = 0,
    progress: bool = True,
    calls: int | None = None,
    emit: str = "shared",
) -> Compiled:
    """Compile ``exported`` for ``target`` into the bundle folder ``output``; nothing is done when it is current.

    ``calls`` of every kernel are compared with the reference: 0 for all, None for what `tvm_flow.check.sampling` says.
    A target of another architecture is checked under qemu. ``emit`` is "shared" or "static". Raises ConfigError for
    another ``emit`` or an export whose tables are not its sampler's, BuildError (for a target that cannot be checked
    here, too), BundleError, or BitExactError when the library disagrees; then ``output`` is left as it was.
    """
    check_emit(emit)
    native = target.triple.startswith(f"{platform.machine()}-")
    emulator = None if native else find_emulator(target)
    sampler = SamplerConfig.from_dict(exported.sampler)
    require_tables_of(str(exported.folder), sampler, exported.timesteps, exported.updates)
    files = {path.name: path for path in sorted(exported.folder.iterdir()) if path.is_file()}
    made_by = {"target": target.describe(), "compilers": compiler_versions(), "emit": emit, "calls": calls}
    stamp = make_stamp(files, made_by, __name__)
    if is_current(output, stamp) and (known := _read_back(output)) is not None:
        return known
    # Beside the output, so that its weights are written once and then only get another name.
    beside = next(folder for folder in output.absolute().parents if folder.is_dir())
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=beside) as name:
        compiled = _compile(exported, target, output, Path(name), threads, progress, emulator, calls, emit)
    write_stamp(output, stamp)
    return compiled


def _read_back(output: Path) -> Compiled | None:
    """What the manifest of ``output`` says was measured when it was made; None for a bundle that does not say."""
    try:
        values = read_manifest(output).provenance["compiled"]
        lists = {key: tuple(values[key]) for key in ("left_in_float", "kernels")}
        return Compiled(bundle=output, **(values | lists))
    except (BundleError, TypeError, KeyError):
        return None


def _compile(
    exported: Exported,
    target: TargetSpec,
    output: Path,
    work: Path,
    threads: int,
    progress: bool,
    emulator: Emulator | None,
    calls: int | None,
    emit: str,
) -> Compiled:
    groups = import_steps(exported.graphs, progress)
    weights = WeightStore(work / "weights.bin")
    with tqdm(groups, desc="compile", unit="group", disable=not progress) as bar:
        libraries = [build_library(group, exported, target, weights, work, f"group{i}") for i, group in enumerate(bar)]
    decoder = build_decoder(exported.folder, target, work)
    trial = bundle_contents(exported, target, libraries, weights, golden_input(exported))
    write_bundle(work / "trial", trial)
    linked = [*libraries, decoder.library] if decoder else libraries
    static = static_files(linked, target, work / "static") if emit == "static" or emulator else {}
    products = [product for library in libraries for product in library.packed.products.values()]
    program = link_sums(products, target, work, emulator.command if emulator else ())
    with program.start() if program else nullcontext() as sums:
        compare = choose_calls(members_of(libraries), calls, sums)
        check = TrajectoryCheck(libraries, trial, ExactnessReport(), compare, 0 if emulator else compare.steps)
        if emulator is None:
            latents = check_bundle(work / "trial", check, threads, progress)
        else:
            link_static(static, target, TRACE_PROGRAM, work / "trace")
            flat, _ = check_emulated(emulator, work / "trace", work / "trial", libraries, threads, progress, check)
            latents = flat.reshape(exported.latent)
        check.finish(latents)
    steps = check.steps if check.steps < trial.steps else 0
    trial = replace(trial, golden=replace(trial.golden, latents=latents, steps=steps))
    trial, decoded = with_decoder(trial, decoder, work, threads, emulator)
    compiled = Compiled(
        bundle=output,
        groups=len(groups),
        exactness=dict(figures(check, check.agreement_db(exported) if compare.chosen is None else None)),
        left_in_float=tuple(line for group in groups for line in group.graph.left_in_float),
        arena_bytes=max(library.plan.arena_bytes for library in libraries),
        liveness_bytes=max(library.plan.liveness_bytes for library in libraries),
        prompt_bytes=max(library.plan.prompt_bytes for library in libraries),
        checked_on=emulator.describe() if emulator else "this machine",
        decoder=decoded,
        kernels=tuple(kernel_lines(linked, target)),
    )
    measured = {key: value for key, value in vars(compiled).items() if key != "bundle"}
    provenance = {**trial.provenance, "compiled": measured}
    final = replace(trial, provenance=provenance, static=static if emit == "static" else {})
    if emit == "static" and emulator is None:
        check_static(final, target, work, threads)
    write_bundle(output, final)
    return compiled


def golden_input(exported: Exported) -> Golden:
    """The exported caption and seeded noise; the latents are still to be computed."""
    rng = np.random.default_rng(GOLDEN_SEED)
    noise = rng.standard_normal(exported.latent).astype(np.float32)
    length, tokens = exported.caption_length, exported.text[0]
    mask = np.where(np.arange(tokens) < length, 0.0, MASKED).astype(np.float32)
    cond, uncond = Prompt(exported.caption, mask), Prompt(exported.null_caption, mask)
    return Golden(noise, cond, uncond, np.zeros_like(noise))


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
        weights=weights.path or weights.data,
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
