"""One function per command: unpack arguments, call the API, say what was written.

Imports are inside, so that ``--help`` does not wait for torch and TVM.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_flow.compile.command import Compiled
    from tvm_flow.pipeline.source import Source


def inspect(arguments: argparse.Namespace) -> None:
    """Print what a checkpoint holds; an error when that is not a whole model."""
    from tvm_flow.model.checkpoint import check_keys
    from tvm_flow.model.inspect import inspect_checkpoint

    found = inspect_checkpoint(arguments.checkpoint, arguments.config)
    print(found)
    check_keys(found.path, found.differences)


def embed(arguments: argparse.Namespace) -> None:
    """Write prompt embeddings."""
    from tvm_flow.pipeline.embed import embed_stage, prompt_texts

    prompts = prompt_texts(arguments.prompt, arguments.prompts)
    shape = (arguments.tokens, arguments.channels)
    embed_stage(arguments.text_encoder, prompts, arguments.output, *shape, arguments.dtype)
    print(f"prompt embeddings: {arguments.output} ({len(prompts)} prompts)")


def calibrate(arguments: argparse.Namespace) -> None:
    """Write a ranges file, or join several into one."""
    if arguments.merge:
        from tvm_flow.pipeline.stages import merge_stage

        merge_stage(arguments.merge, arguments.output)
    else:
        from tvm_flow.pipeline.stages import calibrate_stage

        calibrate_stage(_load_source(arguments), arguments.prompts, arguments.output)
    print(f"ranges: {arguments.output}")


def quantize(arguments: argparse.Namespace) -> None:
    """Write a quantized model and print what rounding did to it."""
    from tvm_flow.pipeline.stages import quantize_stage
    from tvm_flow.quantize.file import load_quantized
    from tvm_flow.quantize.summary import summary

    quantize_stage(_load_source(arguments), arguments.ranges, arguments.recipe, arguments.output)
    print(summary(load_quantized(arguments.output)))
    print(f"quantized model: {arguments.output}")


def export(arguments: argparse.Namespace) -> None:
    """Write the step graphs."""
    from tvm_flow.pipeline.exporting import export_stage

    exported = export_stage(_load_source(arguments), arguments.quantized, arguments.prompts, arguments.output)
    print(f"graphs: {arguments.output} ({len(exported.graphs)} steps)")


def compile(arguments: argparse.Namespace) -> None:
    """Write a checked bundle."""
    from tvm_flow.check.sampling import parse_check
    from tvm_flow.pipeline.stages import compile_stage

    given = arguments
    _report(
        compile_stage(given.export, given.target, given.output, given.threads, parse_check(given.check), given.emit)
    )
    if given.emit == "static":
        print(f"link with: the archives in {given.output / 'lib'}, headers in {given.output / 'include'}")


def targets(arguments: argparse.Namespace) -> None:
    """List the targets, or print one as YAML."""
    from tvm_flow.target import inventory

    if arguments.action == "list":
        print("\n".join(inventory.list_targets()))
    else:
        name = "host" if arguments.action == "detect" else arguments.name
        print(inventory.show_target(name), end="")


def run(arguments: argparse.Namespace) -> None:
    """Write one video per prompt."""
    from tvm_flow.pipeline.asked import require_sampler
    from tvm_flow.pipeline.videos import write_videos

    given = arguments
    require_sampler(given.bundle, given.sampler, given.steps, given.cfg_scale)
    extra = {"embeddings": given.captions, "autoencoder": given.autoencoder}
    where = (given.bundle, given.prompt, given.output)
    for path in write_videos(*where, given.seed, given.threads, given.cpus, **extra):
        print(f"video: {path}")


def build(arguments: argparse.Namespace) -> None:
    """All stages from one YAML file."""
    from tvm_flow.pipeline.config import load_build_config
    from tvm_flow.pipeline.stages import build as run_build

    _report(run_build(load_build_config(arguments.config)))


def demo(arguments: argparse.Namespace) -> None:
    """The main job on the model that ships; the last line printed is JSON."""
    from tvm_flow.pipeline.demo import run_demo

    print(json.dumps(run_demo(arguments.output, arguments.clips)))


def _load_source(arguments: argparse.Namespace) -> Source:
    from tvm_flow.pipeline.source import load_source

    given = arguments
    autoencoder = getattr(given, "autoencoder", None)  # an option of export alone
    return load_source(given.model, given.sampler, given.latent, given.captions, autoencoder, given.config)


def _report(compiled: Compiled) -> None:
    checked = compiled.exactness
    print(f"bundle: {compiled.bundle} ({compiled.groups} step group{'s' if compiled.groups > 1 else ''})")
    print(
        f"bit-exact: {checked['calls']} kernel calls, {checked['accumulators']} accumulators and "
        f"{checked['quantized']} quantized elements compared; {checked['near_ties']} near ties differ by 1"
    )
    if checked["followed"]:
        print(f"not compared: {checked['followed']} more calls, followed in order and with the right constants")
    if compiled.checked_on != "this machine":
        print(f"checked on: {compiled.checked_on}")
    for line in compiled.kernels:
        print(f"kernels: {line}")
    for line in compiled.left_in_float:
        print(f"left in float: {line}")
