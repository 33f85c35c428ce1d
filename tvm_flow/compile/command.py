"""The compile command: step graphs to a bundle that has been run and compared before it is written.

1. compile every function of the export (`FUNCTIONS`): import its graphs, group the equal ones, one library per group;
2. pack a trial bundle in a hidden folder, and run every function on a golden input on a machine for the target, every
   kernel call compared with the integer reference, every tensor it reads with what the program last wrote there;
3. only then write the bundle, with that input and output as its golden pair.

With `Unchecked` nothing is run: the bundle has an input and no output, its manifest says so, and whoever opens it has
to ask for that.

It brings the runtime and a program that checks it for its target, `tvm_flow.compile.board_files`. With `Emit.STATIC` it
has the archives of `tvm_flow.compile.static` too, and a program linked from them verified it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tvm_flow.artifact import is_current, make_stamp, write_stamp
from tvm_flow.backends.registry import backend_named
from tvm_flow.check.conformance import run_checked
from tvm_flow.check.machines import Machine, machine_of
from tvm_flow.check.sampling import Compared, Unchecked, choose_calls
from tvm_flow.compile.board_files import board_files
from tvm_flow.compile.decoder_build import build_decoder
from tvm_flow.compile.dump import clear_dump
from tvm_flow.compile.failures import kept_check
from tvm_flow.compile.functions import Builder, BundleFunction, Figures, Job
from tvm_flow.compile.kernel_lines import kernel_lines
from tvm_flow.compile.measured import measured
from tvm_flow.compile.options import CompileOptions, Emit
from tvm_flow.compile.static import check_static, link_static, static_files
from tvm_flow.compile.step_build import Steps, build_steps, bundle_contents, golden_input, unchecked
from tvm_flow.compile.told import told
from tvm_flow.errors import BitExactError, BundleError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.pack import Contents, read_manifest, write_bundle
from tvm_flow.plan.coverage import coverage, coverage_lines, require_coverage
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.profile.call_names import calls_file
from tvm_flow.room import expect_room
from tvm_flow.sampler import SamplerConfig, require_tables_of
from tvm_flow.scratch import WORK, beside
from tvm_flow.shipped import shipped_folder
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.versions import compiler_versions
from tvm_flow.tune.applied import NO_RECORDS, Records
from tvm_flow.tune.board_machine import BoardMachine

FUNCTIONS: tuple[Builder, ...] = (build_decoder,)
"""What a bundle may be able to do beside its steps, in the order in which each continues what came before."""
LIBRARIES = 16_000_000
"""About the bytes of a bundle beside its weights: libraries, golden pair and tables."""


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
    """What all branches together keep for all steps of a prompt, beside the arena; as the C description has it."""
    checked_on: str = "this machine"
    """Empty for an unchecked bundle, whose ``exactness`` is too."""
    decoder: dict[str, Any] | None = None
    """What was compared of the decoder; None without one."""
    kernels: tuple[str, ...] = ()
    """What products, attention and rows run on, and what is slow; see `tvm_flow.compile.kernel_lines`."""
    coverage: tuple[str, ...] = ()
    """What each device runs of each library, and what was refused; see `tvm_flow.plan.coverage`."""
    accelerated: float = 0.0
    """Share of the steps' multiply-adds that another device than the CPU runs, the least of all step groups."""


def compile_bundle(
    exported: Exported, target: TargetSpec, output: Path, options: CompileOptions | None = None
) -> Compiled:
    """Compile ``exported`` for ``target`` into the bundle folder ``output``; nothing is done when it is current.

    A target of another architecture is checked under qemu, with ``check_on`` any on that board, where the files of the
    bundle repeat its golden output too; with `Unchecked` none is. Raises ConfigError for an export
    whose tables are not its sampler's, BuildError (for a target that cannot be checked here, too), BundleError, or
    BitExactError when the library disagrees; then ``output`` is left as it was.
    """
    options = options or CompileOptions()
    shipped = shipped_folder("targets") / "records"
    records = NO_RECORDS if options.records is None else Records.read(options.records, shipped)
    job = Job(exported, target, output, _machine(target, options), options, records)
    sampler = SamplerConfig.from_dict(exported.sampler)
    corrected = exported.provenance.get("recipe", {}).get("fit", {}).get("sampler") == "affine"
    require_tables_of(str(exported.folder), sampler, exported.timesteps, exported.updates, corrected)
    stamp = _stamp(job)
    known = _read_back(output) if options.debug_dump is None and is_current(output, stamp) else None
    if known is not None and known.accelerated >= options.least_coverage:
        return known
    if job.options.debug_dump is not None:
        clear_dump(job.options.debug_dump)
    expect_room(output, LIBRARIES + sum(path.stat().st_size for path in exported.folder.glob("*.bin")))
    with beside(output, WORK) as work, closing(job.machine) if isinstance(job.machine, BoardMachine) else nullcontext():
        compiled = _compile(job, work)
    write_stamp(output, stamp)
    return compiled


def _machine(target: TargetSpec, options: CompileOptions) -> Machine | None:
    if options.check_on is None:
        return None if isinstance(options.check, Unchecked) else machine_of(target)
    if isinstance(options.check, Unchecked):
        raise ConfigError(f"check: expected calls to compare on board {options.check_on}, got none; leave one out")
    return BoardMachine(options.check_on, target, options.progress)


def _stamp(job: Job) -> dict[str, Any]:
    files = {path.name: path for path in sorted(job.exported.folder.iterdir()) if path.is_file()}
    choices = {"emit": str(job.options.emit), "check": str(job.options.check)}
    backends = {name: version for name in job.target.backends if (version := backend_named(name).version)}
    if job.options.check_on is not None:
        choices["checked on"] = str(job.options.check_on)
    if won := job.records.digest(job.target):
        choices["records"] = "\n".join(won)
    made_by = {"target": job.target.describe(), "compilers": compiler_versions(), "backends": backends, **choices}
    return make_stamp(files, made_by, __name__)


def _read_back(output: Path) -> Compiled | None:
    """What the manifest of ``output`` says was measured when it was made; None for a bundle that does not say."""
    try:
        values = read_manifest(output).provenance["compiled"]
        lists = {key: tuple(values[key]) for key in ("left_in_float", "kernels", "coverage")}
        return Compiled(bundle=output, **(values | lists))
    except (BundleError, TypeError, KeyError):
        return None


def _compile(job: Job, work: Path) -> Compiled:
    exported, target, options = job.exported, job.target, job.options
    steps = build_steps(job, work)
    for library in steps.libraries:
        require_coverage(library.path.stem, coverage(library.packed), options.least_coverage)
    others = [made for build in FUNCTIONS if (made := build(job, work)) is not None]
    functions: list[BundleFunction[Any]] = [steps, *others]

    @cache
    def archives() -> dict[str, Path]:
        return static_files([library for made in functions for library in made.libraries], target, work / "static")

    contents = bundle_contents(exported, target, steps.libraries, steps.weights, golden_input(exported))
    reports: list[Figures] = []
    machine = job.machine and job.machine.prepared(work, lambda main, out: link_static(archives(), target, main, out))
    for index, function in enumerate(functions):
        if machine is None or isinstance(options.check, Unchecked):
            contents = unchecked(function.placed(contents))
        else:
            check = _Check(job, machine, options.check)
            contents, report = check.run(function, contents, work / f"trial{index}")
            reports.append(report)
    compiled = _compiled(job, steps, reports, [library for made in functions for library in made.libraries])
    measured = {key: _without_rounding(value) for key, value in vars(compiled).items() if key != "bundle"}
    with told(f"runtime for {target.name}", shown=options.progress) as bar:
        extra = board_files(target) | calls_file(steps.libraries, work)
        bar.update()
    final = replace(contents, provenance={**contents.provenance, "compiled": measured}, extra=extra)
    if options.emit is Emit.STATIC:
        final = replace(final, static=archives())
        if machine is not None and not machine.command:
            check_static(final, target, work, options.threads)
    if machine is not None and machine.loads_files:
        with told(f"golden output on {machine.describe()}", shown=options.progress) as bar:
            write_bundle(work / "checked.bundle", final)
            machine.verify(work / "checked.bundle", options.threads)
            bar.update()
    write_bundle(job.output, final)
    return compiled


@dataclass(frozen=True)
class _Check:
    job: Job
    machine: Machine
    compared: Compared

    def run(self, function: BundleFunction[Any], contents: Contents, trial: Path) -> tuple[Contents, Figures]:
        """``contents`` with ``function`` and its golden output, run as the bundle ``trial``, and what was compared.

        Raises BitExactError when a kernel call disagrees, with evidence of it beside the output.
        """
        trial.mkdir()
        contents, job, options = function.placed(contents), self.job, self.job.options
        write_bundle(trial / "bundle", contents)
        products = [product for library in function.libraries for product in library.packed.products.values()]
        with interrupts_kept(), told("link sums", shown=bool(products) and options.progress) as bar:
            program = self.machine.sums(products, job.target, trial)
            bar.update()
        with program.start() if program else nullcontext() as sums:
            compare = choose_calls(function.members, self.compared, sums)
            check = function.check(contents, compare, None if self.machine.whole else compare.steps)
            shape = function.result_shape(contents)
            try:
                with measured(f"check {check.part} on {self.machine.describe()}"):
                    result = run_checked(
                        self.machine, trial / "bundle", check, shape, options.threads, options.progress
                    )
                    figures = function.figures(check)
            except BitExactError as error:
                raise kept_check(error, function.libraries, check.part, job.target, job.output) from error
        return function.golden(contents, check, result), figures


def _without_rounding(figures: Any) -> Any:
    """``figures`` without distances to onnx's evaluation, whose float sums numpy shares out over the machine's cores.

    That they are small enough was checked; in a bundle they would differ from build to build.
    """
    if not isinstance(figures, dict):
        return figures
    return {key: value for key, value in figures.items() if value is None or not key.startswith("onnx_")}


def _compiled(job: Job, steps: Steps, reports: Sequence[Figures], libraries: Sequence[GroupLibrary]) -> Compiled:
    plans = [library.plan for library in steps.libraries]
    exactness, *decoder = (dict(report) for report in reports or [{}])
    covered = {library.path.stem: coverage(library.packed) for library in libraries}
    return Compiled(
        bundle=job.output,
        groups=len(plans),
        exactness=exactness,
        left_in_float=steps.left_in_float,
        arena_bytes=max(plan.arena_bytes for plan in plans),
        liveness_bytes=max(plan.liveness_bytes for plan in plans),
        prompt_bytes=len(job.exported.graphs[0]) * max(plan.prompt_bytes for plan in plans),
        checked_on=job.machine.describe() if job.machine else "",
        decoder=decoder[0] if decoder else None,
        kernels=tuple(kernel_lines(libraries, job.target)),
        coverage=tuple(line for name, found in covered.items() for line in coverage_lines(name, found)),
        accelerated=min(covered[library.path.stem].accelerated for library in steps.libraries),
    )
