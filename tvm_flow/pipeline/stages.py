"""The stages of a build as the commands call them: files in, files out, nothing done when the output is current.

One process at a time writes an output; a second one is refused. Whatever is wrong with a build's files is found before
its first stage starts.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from tvm_flow.artifact import exclusive, require_exec
from tvm_flow.calibrate.header import expect_own
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.calibrate.ranges import load_ranges, merge, ranges_sampler, save_ranges
from tvm_flow.calibrate.run import calibrate
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.compile.workspace import sweep_unfinished
from tvm_flow.export import check_output as check_export_output
from tvm_flow.export import load_exported
from tvm_flow.pack import check_output as check_bundle_output
from tvm_flow.pipeline.config import BuildConfig
from tvm_flow.pipeline.exporting import export_stage, require_sampler_of
from tvm_flow.pipeline.source import Source, load_source
from tvm_flow.quantize.build import quantize
from tvm_flow.quantize.recipe import load_recipe
from tvm_flow.target.spec import load_target

RANGES, QUANTIZED = "a ranges file", "a quantized model"


def calibrate_stage(source: Source, prompts: Path, output: Path) -> None:
    """Ranges of the prompts in ``prompts``, into ``output``; resumes and extends what is there."""
    expect_own(output, RANGES, "prompts")
    with exclusive(output):
        calibrate(source.model, source.sampler, source.latent, load_prompts(prompts), source.embed, output)


def merge_stage(parts: Sequence[Path], output: Path) -> None:
    """Join the ranges files ``parts`` into ``output``; raises CalibrationError when they do not belong together."""
    expect_own(output, RANGES, "prompts")
    with exclusive(output):
        save_ranges(output, reduce(merge, (load_ranges(part) for part in parts)))


def quantize_stage(source: Source, ranges: Path, recipe: Path, output: Path) -> None:
    """Quantized model into ``output``; raises ConfigError showing both when ``ranges`` are of another sampler."""
    expect_own(output, QUANTIZED, "folds")
    require_sampler_of(ranges, ranges_sampler, source, "calibrate")
    with exclusive(output):
        quantize(source.model, ranges, recipe, output)


def compile_stage(exported: Path, target: str, output: Path, options: CompileOptions | None = None) -> Compiled:
    """A checked bundle in the folder ``output``; see `compile_bundle`."""
    check_bundle_output(output)
    chosen = load_target(target)
    if chosen.triple.startswith(f"{platform.machine()}-"):  # its libraries are loaded beside the output to be checked
        require_exec(output, "compile into another folder and copy the bundle, or mount this one with exec")
    with exclusive(output):
        sweep_unfinished(output)
        return compile_bundle(load_exported(exported), chosen, output, options)


def build(config: BuildConfig) -> Compiled:
    """All stages of ``config``, each skipped when what it would write is current."""
    load_recipe(config.recipe)
    load_target(config.target)
    expect_own(config.ranges, RANGES, "prompts")
    expect_own(config.quantized, QUANTIZED, "folds")
    check_export_output(config.export)
    check_bundle_output(config.bundle)
    source = load_source(
        config.model, config.sampler, config.latent, config.captions, config.autoencoder, config.config
    )
    calibrate_stage(source, config.prompts, config.ranges)
    quantize_stage(source, config.ranges, config.recipe, config.quantized)
    export_stage(source, config.quantized, config.prompts, config.export)
    return compile_stage(config.export, config.target, config.bundle)
