"""One function per command: unpack arguments, call the API, say what was written.

Imports are inside, so that ``--help`` does not wait for torch and TVM.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_flow.cli.doctor_command import doctor as doctor
from tvm_flow.cli.mixing_command import mix as mix
from tvm_flow.cli.package_command import package as package
from tvm_flow.cli.sharded_commands import calibrate as calibrate
from tvm_flow.cli.sharded_commands import evaluate as evaluate
from tvm_flow.cli.sharded_commands import source_files
from tvm_flow.cli.signing_commands import install as install
from tvm_flow.cli.signing_commands import sign as sign
from tvm_flow.cli.signing_commands import trust_given
from tvm_flow.cli.signing_commands import verify as verify
from tvm_flow.cli.tuning_commands import asked_board
from tvm_flow.cli.tuning_commands import boards as boards
from tvm_flow.cli.tuning_commands import records as records
from tvm_flow.cli.tuning_commands import tune as tune
from tvm_flow.errors import ConfigError
from tvm_flow.target.target_names import require_target

if TYPE_CHECKING:
    from tvm_flow.compile.command import Compiled
    from tvm_flow.pipeline.source import Source


def inspect(arguments: argparse.Namespace) -> None:
    """Print what a bundle or a checkpoint holds; an error when that is not a whole bundle or model."""
    from tvm_flow.pack.format import MANIFEST

    if (arguments.path / MANIFEST).is_file():
        from tvm_flow.quality.bundle_report import bundle_report

        print(bundle_report(arguments.path, trust_given(arguments)))
        return
    if arguments.trust is not None:
        raise ConfigError(f"{arguments.path}: expected a bundle to trust, got no {MANIFEST}; leave out --trust")
    from tvm_flow.model.checkpoint import check_keys
    from tvm_flow.model.inspect import inspect_checkpoint

    found = inspect_checkpoint(arguments.path, arguments.config)
    print(found)
    check_keys(found.path, found.differences)


def diff(arguments: argparse.Namespace) -> None:
    """Print what differs between two bundles."""
    from tvm_flow.quality.bundle_diff import bundle_differences

    lines = bundle_differences(arguments.one, arguments.other)
    print("\n".join(lines) or "no difference")


def embed(arguments: argparse.Namespace) -> None:
    """Write prompt embeddings, or one caption for a C program."""
    if arguments.for_bundle is not None:
        _embed_for_bundle(arguments)
        return
    from tvm_flow.pipeline.embed import embed_stage, prompt_texts

    given = arguments
    if given.text_encoder is None or given.captions is not None:
        given.complain("expected --text-encoder and no --captions, which are for --for-bundle")
    prompts = prompt_texts(given.prompt, given.prompts)
    output = Path("captions.safetensors") if given.output is None else given.output
    embed_stage(given.text_encoder, prompts, output, given.tokens, given.channels, given.dtype)
    print(f"prompt embeddings: {output} ({len(prompts)} prompts)")


def _embed_for_bundle(given: argparse.Namespace) -> None:
    from tvm_flow.pipeline.board_prompt import CaptionSource, board_prompt_stage

    if len(given.prompt) != 1 or given.prompts is not None:
        given.complain("--for-bundle: expected one prompt; call it again for another")
    output = Path("prompt.bin") if given.output is None else given.output
    source = CaptionSource(given.captions, given.text_encoder, given.dtype)
    prompt = board_prompt_stage(given.for_bundle, given.prompt[0], source, output)
    print(f"prompt: {output} ({int((prompt.mask == 0).sum())} of {len(prompt.mask)} tokens)")


def quantize(arguments: argparse.Namespace) -> None:
    """Write a quantized model and print what rounding did to it."""
    from tvm_flow.pipeline.stages import quantize_stage
    from tvm_flow.quantize.file import load_quantized
    from tvm_flow.quantize.summary import summary

    quantize_stage(_load_source(arguments, None), arguments.ranges, arguments.recipe, arguments.output)
    print(summary(load_quantized(arguments.output)))
    print(f"quantized model: {arguments.output}")


def export(arguments: argparse.Namespace) -> None:
    """Write the step graphs."""
    from tvm_flow.pipeline.exporting import export_stage

    source = _load_source(arguments, arguments.autoencoder)
    exported = export_stage(source, arguments.quantized, arguments.prompts, arguments.output)
    print(f"graphs: {arguments.output} ({len(exported.graphs)} steps)")


def compile(arguments: argparse.Namespace) -> None:
    """Write a checked bundle."""
    require_target(arguments.target)  # before TVM is loaded, which takes seconds
    from tvm_flow.check.sampling import parse_check
    from tvm_flow.compile.options import CompileOptions, Emit
    from tvm_flow.pipeline.stages import compile_stage

    given = arguments
    check, emit, board = parse_check(given.check), Emit(given.emit), asked_board(given.check_on)
    options = CompileOptions(
        *(given.threads, True, check, emit, given.require_coverage, given.debug_dump, board, given.records)
    )
    _report(compile_stage(given.export, given.target, given.output, options))
    if given.emit == "static":
        print(f"link with: the archives in {given.output / 'lib'}, headers in {given.output / 'include'}")


def replay(arguments: argparse.Namespace) -> None:
    """Repeat the kernel of a failed compile; an error when it fails as it did."""
    from tvm_flow.check import replay as replayed

    folder, again = arguments.folder, arguments.again
    if arguments.tir:
        print(replayed.tir_text(folder, again))
    if arguments.disassemble:
        print(replayed.disassemble(folder, again))
    print(replayed.replay(folder, again))


def import_(arguments: argparse.Namespace) -> None:
    """Write a graph's library, header and report, and print the report."""
    require_target(arguments.target)
    from tvm_flow.compile.graph_report import report_text
    from tvm_flow.pipeline.importing import OUTPUTS, ImportRequest, import_stage
    from tvm_flow.target.spec import load_target

    given = arguments
    wanted = ImportRequest(given.graph, load_target(given.target), given.output, given.inputs, given.name)
    report = import_stage(wanted)
    print(report_text(report))
    print(f"library: {given.output / report['library']}\nheader: {given.output / report['header']}")
    if given.inputs is not None:
        print(f"outputs: {given.output / OUTPUTS}")


def targets(arguments: argparse.Namespace) -> None:
    """List the targets, or print one as YAML."""
    if arguments.action == "show":
        require_target(arguments.name)
    from tvm_flow.target import inventory

    if arguments.action == "list":
        print("\n".join(inventory.list_targets()))
    else:
        name = "host" if arguments.action == "detect" else arguments.name
        print(inventory.show_target(name), end="")


def devices(arguments: argparse.Namespace) -> None:  # noqa: ARG001
    """List what besides the CPU could run parts of a bundle here, and what each lacks."""
    from tvm_flow.run.vulkan_list import vulkan_devices

    print("\n".join(map(str, vulkan_devices())))


def run(arguments: argparse.Namespace) -> None:
    """Write one video per prompt and seed."""
    from tvm_flow.pipeline.asked import read_prompts, require_sampler
    from tvm_flow.pipeline.videos import VideoRequest, remarks, write_videos

    given = arguments
    if not given.prompt and given.prompts is None:
        given.complain("expected a prompt, or --prompts FILE")
    require_sampler(given.bundle, given.sampler, given.steps, given.cfg_scale)
    prompts, seed = read_prompts(given.prompt, given.prompts, given.seed)
    wanted = VideoRequest(
        *(given.bundle, prompts, given.output, given.format, seed, given.count, given.negative),
        *(given.captions, given.autoencoder, given.threads, given.cpus, given.unchecked),
        trust_given(given),
    )
    for line in remarks(wanted):
        print(line, file=sys.stderr)
    for path in write_videos(wanted):
        print(f"{'latents' if path.suffix == '.safetensors' else 'video'}: {path}")


def compare(arguments: argparse.Namespace) -> None:
    """Print how far a bundle is from its model in FP32."""
    from tvm_flow.pipeline.asked import read_prompts
    from tvm_flow.pipeline.compare import compare_stage
    from tvm_flow.pipeline.decode import Frames

    given = arguments
    if not given.prompt and given.prompts is None:
        given.complain("expected a prompt, or --prompts FILE")
    prompts, seed = read_prompts(given.prompt, given.prompts, given.seed)
    output = given.bundle.resolve().parent / "comparison" if given.output is None else given.output
    frames = Frames(given.bundle, given.autoencoder, given.threads, given.cpus, given.unchecked, trust_given(given))
    found = compare_stage(_load_source(given, None), frames, prompts, seed, output)
    print(found.table())
    print(f"latents: {found.latents[-1]:.2f} dB PSNR of int8 against FP32 after {len(found.latents)} steps, ", end="")
    print(f"{len(prompts)} prompts, equal noise")
    if found.frames is not None:
        print(f"frames: {found.frames:.2f} dB PSNR\nsheet: {found.sheet}")
    print(f"figures: {output / 'comparison.json'}")


def profile(arguments: argparse.Namespace) -> None:
    """Print where the time of the first steps goes."""
    from tvm_flow.artifact import exclusive, write_json
    from tvm_flow.pack import read_manifest
    from tvm_flow.profile import report
    from tvm_flow.profile.measure import Profiled, timed_calls
    from tvm_flow.profile.roofline import UNKNOWN, peaks_here

    given = arguments
    board = asked_board(given.board)
    asked = Profiled(given.bundle, given.steps, given.threads, given.on, given.unchecked, board, trust_given(given))
    calls, threads = timed_calls(asked)
    features = frozenset(read_manifest(given.bundle).target.get("features", ()))
    peaks = peaks_here(features) if board is None else UNKNOWN
    rows = report.rows_of(calls, peaks, threads)
    if given.trace is not None:
        with exclusive(given.trace):
            write_json(given.trace, report.chrome_trace(calls))
    clocks = report.clocks_of(calls)
    if given.json:
        print(json.dumps(report.as_json(rows, threads, clocks)))
    else:
        print(f"{report.table(rows)}\n{report.traffic(rows)}{report.clock_lines(clocks)}")


def sensitivity(arguments: argparse.Namespace) -> None:
    """Write what each layer costs at each part of the trajectory."""
    from tvm_flow.pipeline.asked import read_prompts
    from tvm_flow.pipeline.evaluating import EvaluationRequest, sensitivity_stage
    from tvm_flow.quality.trials import crossed

    given = arguments
    prompts, seed = read_prompts([], given.prompts, given.seed)
    pairs = tuple(crossed(prompts[: given.count], [seed]))
    request = EvaluationRequest((given.recipe,), pairs, given.calibration, given.output, given.outliers)
    sensitivity_stage(_load_source(given, None), request, given.windows)
    print(f"sensitivity: {given.output}")


def report(arguments: argparse.Namespace) -> None:
    """Write the page, and the pictures where asked."""
    from tvm_flow.quality.pictures import write_pictures
    from tvm_flow.quality.report_file import ReportFiles, write_report

    given = arguments
    write_report(ReportFiles(given.scores, given.ranges, given.sensitivity, given.records), given.output)
    print(f"report: {given.output}")
    if given.pictures is not None:
        for path in write_pictures(given.scores, given.ranges, given.pictures):
            print(f"picture: {path}")


def build(arguments: argparse.Namespace) -> None:
    """All stages from one YAML file."""
    from tvm_flow.pipeline.config import load_build_config

    config = load_build_config(arguments.config)
    require_target(config.target)  # before torch and TVM are loaded, which takes seconds
    from tvm_flow.pipeline.stages import build as run_build

    _report(run_build(config, print))


def demo(arguments: argparse.Namespace) -> None:
    """The main job on the model that ships; the last line printed is JSON."""
    from tvm_flow.pipeline.demo import run_demo

    print(json.dumps(run_demo(arguments.output, arguments.clips)))


def _load_source(arguments: argparse.Namespace, autoencoder: Path | None) -> Source:
    return source_files(arguments, autoencoder).load()


def _report(compiled: Compiled) -> None:
    checked = compiled.exactness
    print(f"bundle: {compiled.bundle} ({compiled.groups} step group{'s' if compiled.groups > 1 else ''})")
    if checked:
        _report_check(compiled)
    for line in compiled.kernels:
        print(f"kernels: {line}")
    for line in compiled.coverage:
        print(f"coverage: {line}")
    for line in compiled.left_in_float:
        print(f"left in float: {line}")
    if not checked:
        print(
            "UNCHECKED: nothing of this bundle was run or compared (--check none), and its golden output is not known; "
            "run and compare refuse it without --unchecked"
        )


def _report_check(compiled: Compiled) -> None:
    checked = compiled.exactness
    print(
        f"bit-exact: {checked['calls']} kernel calls, {checked['accumulators']} accumulators and "
        f"{checked['quantized']} quantized elements compared; {checked['near_ties']} near ties differ by 1"
    )
    if checked["followed"]:
        print(f"not compared: {checked['followed']} more calls, followed in order and with the right constants")
    if compiled.checked_on != "this machine":
        print(f"checked on: {compiled.checked_on}")
