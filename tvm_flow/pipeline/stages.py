"""The stages of a build as the commands call them: files in, files out, nothing done when the output is current.

One process at a time writes an output; a second one is refused. Whatever is wrong with a build's files is found before
its first stage starts.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

from tvm_flow.artifact import exclusive, require_exec, require_unchanged
from tvm_flow.calibrate.header import expect_own
from tvm_flow.calibrate.layers import layer_names
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.calibrate.ranges import load_ranges, merge, ranges_sampler, save_ranges
from tvm_flow.calibrate.record import ranges_bytes
from tvm_flow.calibrate.run import Denoising, Shards, calibrate
from tvm_flow.compile.command import LIBRARIES, Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.export import check_output as check_export_output
from tvm_flow.export import load_exported
from tvm_flow.pack import check_output as check_bundle_output
from tvm_flow.pack.format import MANIFEST
from tvm_flow.pipeline.config import BuildConfig
from tvm_flow.pipeline.exporting import export_stage, require_sampler_of
from tvm_flow.pipeline.sizes import decoder_bytes, export_bytes
from tvm_flow.pipeline.source import Source, load_source
from tvm_flow.quantize.build import quantize
from tvm_flow.quantize.estimate import quantized_bytes
from tvm_flow.quantize.file import load_quantized
from tvm_flow.quantize.recipe import Recipe, load_recipe
from tvm_flow.quantize.summary import summary
from tvm_flow.room import bytes_in, expect_room
from tvm_flow.target.spec import TargetSpec, load_target

RANGES, QUANTIZED = "a ranges file", "a quantized model"


def calibrate_stage(source: Source, prompts: Path, output: Path, shards: Shards | None = None) -> None:
    """Ranges of the prompts in ``prompts``, into ``output``, denoised here or by ``shards``; resumes and extends what
    is there.
    """
    expect_own(output, RANGES, "prompts")
    expect_room(output)
    with exclusive(output):
        denoising = Denoising(source.model, source.sampler, source.latent)
        calibrate(denoising, load_prompts(prompts), source.embed, output, shards=shards)


def merge_stage(parts: Sequence[Path], output: Path) -> None:
    """Join the ranges files ``parts`` into ``output``, those of earlier versions too; raises CalibrationError when they
    do not belong together.
    """
    expect_own(output, RANGES, "prompts")
    expect_room(output, max((bytes_in(part) for part in parts), default=0))
    with exclusive(output):
        save_ranges(output, reduce(merge, (load_ranges(part, unsealed=True) for part in parts)))


def quantize_stage(source: Source, ranges: Path, recipe: Path, output: Path) -> None:
    """Quantized model into ``output``; raises ConfigError showing both when ``ranges`` are of another sampler."""
    expect_own(output, QUANTIZED, "folds")
    require_sampler_of(ranges, ranges_sampler, source, "calibrate")
    expect_room(output)
    with exclusive(output):
        quantize(source.model, ranges, recipe, output, source.embed)


def compile_stage(exported: Path, target: str, output: Path, options: CompileOptions | None = None) -> Compiled:
    """A checked bundle in the folder ``output``; see `compile_bundle`. An export that was changed is refused."""
    check_bundle_output(output)
    chosen = load_target(target)
    _expect_place(chosen, output)
    steps = load_exported(exported)
    require_unchanged(exported, "export")
    with exclusive(output):
        return compile_bundle(steps, chosen, output, options)


def build(config: BuildConfig, say: Callable[[str], object] = lambda _: None) -> Compiled:
    """All stages of ``config``, each skipped when what it would write is current.

    ``say`` gets a line for each stage as it ends, and what the quantization came to. Measurements that lie beside the
    bundle, where ``tvm-flow tune`` puts them, are used.
    """
    recipe = load_recipe(config.recipe)
    load_prompts(config.prompts)
    target = load_target(config.target)
    expect_own(config.ranges, RANGES, "prompts")
    expect_own(config.quantized, QUANTIZED, "folds")
    check_export_output(config.export)
    check_bundle_output(config.bundle)
    _expect_place(target, config.bundle)
    source = load_source(
        config.model, config.sampler, config.latent, config.captions, config.autoencoder, config.config
    )
    recipe.check(layer_names(source.model.config), source.sampler.steps)
    _expect_room_for_all(config, source, recipe)
    with _told(say, "calibrate", config.ranges):
        calibrate_stage(source, config.prompts, config.ranges)
    with _told(say, "quantize", config.quantized):
        quantize_stage(source, config.ranges, config.recipe, config.quantized)
    say(summary(load_quantized(config.quantized)))
    with _told(say, "export", config.export, "export.json"):
        export_stage(source, config.quantized, config.prompts, config.export)
    with _told(say, "compile", config.bundle, MANIFEST):
        tuned = CompileOptions(records=config.bundle.with_name("records"))
        return compile_stage(config.export, config.target, config.bundle, tuned)


def _expect_place(target: TargetSpec, bundle: Path) -> None:
    """``bundle`` can be written, and its libraries be loaded where they are to be checked beside it."""
    expect_room(bundle)
    if target.triple.startswith(f"{platform.machine()}-"):
        require_exec(bundle, "compile into another folder and copy the bundle, or mount this one with exec")


def _expect_room_for_all(config: BuildConfig, source: Source, recipe: Recipe) -> None:
    """A disk that the last stage does not fit on is found before the first; what is there may be current."""
    quantized = quantized_bytes(source.model, recipe, source.sampler.steps)
    sizes = {
        config.ranges: 3 * ranges_bytes(source.model, source.sampler.steps),
        config.quantized: quantized,
        config.export: export_bytes(source, quantized),
        config.bundle: quantized + decoder_bytes(source) + LIBRARIES,
    }
    for output in sizes:
        expect_room(output)
    expect_room(config.output, sum(size for output, size in sizes.items() if not output.exists()))


@contextmanager
def _told(say: Callable[[str], object], stage: str, output: Path, last: str = "") -> Iterator[None]:
    """Say whether the stage inside wrote ``output``, of which it writes the file ``last`` last, or found it current."""
    before = _written(output / last)
    yield
    kept = before is not None and _written(output / last) == before
    say(f"{stage}: {'current' if kept else 'done'} ({output})")


def _written(file: Path) -> tuple[int, int] | None:
    """What a file that is written anew, under another name first, does not keep; None for no file."""
    return (file.stat().st_ino, file.stat().st_mtime_ns) if file.is_file() else None
