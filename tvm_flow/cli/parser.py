"""Commands and their options."""

from __future__ import annotations

import argparse
from keyword import iskeyword
from pathlib import Path

from tvm_flow import __version__
from tvm_flow.cli import commands, doctor_command, mixing_command, package_command, signing_commands, tuning_commands
from tvm_flow.cli.argument_types import at_least, cpus, seed
from tvm_flow.cli.shared_options import (
    autoencoder_option,
    embeddings_option,
    shard_options,
    source_options,
    threads_option,
)
from tvm_flow.cli.trial_options import evaluate_options, report_options, sensitivity_options, tried_options
from tvm_flow.shipped import output_folder, shipped_folder

_ARTIFACTS = output_folder()
_CALIBRATION = shipped_folder("calibration")


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``tvm-flow``; each command sets ``run``."""
    parser = argparse.ArgumentParser(prog="tvm-flow", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"tvm-flow {__version__}")
    sub = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _inspect(_command(sub, "inspect", "what a checkpoint or a bundle holds"))
    _embed(_command(sub, "embed", "prompts to embeddings, by a T5 in a local folder (extra: opensora)"))
    _calibrate(_command(sub, "calibrate", "record activation ranges over real denoising trajectories"))
    _quantize(_command(sub, "quantize", "ranges and a recipe to static int8 weights and per-step scales"))
    _export(_command(sub, "export", "one QDQ ONNX graph per step and branch, sharing one weight file"))
    _compile(_command(sub, "compile", "step graphs to a checked bundle of plain shared libraries"))
    _tuning(sub)
    text = "an export's linears for an Ethos-U: command streams and weights in C, for Linux and bare metal"
    package_command.package_options(_command(sub, "package", text))
    _replay(_command(sub, "replay", "repeat the kernel that made a compile fail, from the folder that it kept"))
    _import(_command(sub, "import", "an ONNX graph from elsewhere to a checked library with a C header"))
    _targets(_command(sub, "targets", "what compile can build for"))
    _command(sub, "devices", "GPUs of this machine that run parts of a bundle, and what each lacks")
    text = "what this machine lacks of what commands need, and the command that mends it"
    doctor_command.doctor_options(_command(sub, "doctor", text))
    _run(_command(sub, "run", "videos from a bundle"))
    _compare(_command(sub, "compare", "a bundle beside its model in FP32, from equal noise: dB for each step, a sheet"))
    evaluate_options(
        _command(sub, "evaluate", "try recipes on a model, simulated: quality against FP32 over prompts and seeds")
    )
    sensitivity_options(_command(sub, "sensitivity", "what each layer costs at each part of the trajectory"))
    mix = _command(sub, "mix", "a recipe that keeps in float, under a budget, what sensitivity shows to be worth it")
    mixing_command.mix_options(mix, tried_options, at_least)
    report_options(_command(sub, "report", "scores, ranges, sensitivities and tuning as one HTML file"))
    _diff(_command(sub, "diff", "what differs between two bundles: fields, sizes, bytes"))
    signing_commands.sign_options(_command(sub, "sign", "a bundle signed with your key, or a new key"))
    text = "whether every file of a bundle is as it was packed, and who signed it"
    signing_commands.verify_options(_command(sub, "verify", text))
    text = "a bundle in the place of another, at once, and only when it gave its golden output here"
    signing_commands.install_options(_command(sub, "install", text))
    _build(_command(sub, "build", "calibrate, quantize, export and compile from one YAML file"))
    _profile(_command(sub, "profile", "where the time of a bundle's steps goes, layer by layer, and what binds it"))
    _demo(_command(sub, "demo", "the main job on the model that ships, judged against float"))
    return parser


_IF_SIGNED = "run the bundle only if it is signed so"
_DESCRIPTION = (
    "Static int8 video diffusion transformers, compiled to plain shared libraries. Every stage does nothing when "
    f"what it would write is already current. Files go to {_ARTIFACTS} of the folder it is run in, and videos beside "
    "their bundle, unless --output says otherwise."
)
_Sub = argparse._SubParsersAction  # the only name argparse gives it


def _command(sub: _Sub[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    parser = sub.add_parser(name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.set_defaults(run=getattr(commands, f"{name}_" if iskeyword(name) else name))
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="say what is decided; twice: how compilers are called, too"
    )
    return parser


def _embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="*", help="captions")
    parser.add_argument("--prompts", type=Path, help="prompt set to encode too")
    text = "write one caption as the file that a C program opens beside this bundle, whose sizes it takes"
    parser.add_argument("--for-bundle", type=Path, metavar="BUNDLE", help=text)
    text = "local folder of T5-v1.1-XXL; with --for-bundle, instead of --captions or the demo's own"
    parser.add_argument("--text-encoder", type=Path, metavar="FOLDER", help=text)
    embeddings_option(parser)
    parser.add_argument("--tokens", type=at_least(1), default=300, help="120 for Open-Sora v1.0, 300 for v1.2")
    parser.add_argument("--channels", type=at_least(1), default=4096, help="that the transformer takes")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="to compute in")
    text = "prompt embeddings (captions.safetensors), or with --for-bundle the caption (prompt.bin)"
    parser.add_argument("--output", type=Path, help=text)
    parser.set_defaults(complain=parser.error)


def _inspect(parser: argparse.ArgumentParser) -> None:
    text = "a bundle; or a checkpoint: folder with a config.json, or a .pth or .safetensors file"
    parser.add_argument("path", type=Path, help=text)
    parser.add_argument("--config", type=Path, help="config.json of a checkpoint that has none")
    signing_commands.trust_option(parser, "of a bundle, which is opened to ask what it takes: only if it is signed so")


def _calibrate(parser: argparse.ArgumentParser) -> None:
    source_options(parser)
    parser.add_argument("--prompts", type=Path, default=_CALIBRATION / "prompts.yaml", help="prompt set")
    parser.add_argument("--output", type=Path, default=_ARTIFACTS / "ranges.safetensors", help="ranges file")
    parser.add_argument("--merge", type=Path, nargs="+", default=[], help="only join these ranges files into --output")
    shard_options(parser, "prompts")


def _quantize(parser: argparse.ArgumentParser) -> None:
    source_options(parser)
    parser.add_argument("--ranges", type=Path, default=_ARTIFACTS / "ranges.safetensors", help="what calibrate wrote")
    parser.add_argument("--recipe", type=Path, default=_CALIBRATION / "recipes" / "w8a8.yaml", help="recipe")
    parser.add_argument("--output", type=Path, default=_ARTIFACTS / "quantized.safetensors", help="quantized model")


def _export(parser: argparse.ArgumentParser) -> None:
    source_options(parser)
    parser.add_argument(
        "--quantized", type=Path, default=_ARTIFACTS / "quantized.safetensors", help="what quantize wrote"
    )
    parser.add_argument(
        "--prompts", type=Path, default=_CALIBRATION / "prompts.yaml", help="its first prompt is the golden one"
    )
    autoencoder_option(parser, "whose decoder the bundle is to end in; the demo has its own")
    parser.add_argument("--output", type=Path, default=_ARTIFACTS / "export", help="folder of ONNX graphs")


def _compile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--export", type=Path, default=_ARTIFACTS / "export", help="what export wrote")
    parser.add_argument("--target", default="host", help="'host', a name in targets/, or a YAML file")
    parser.add_argument("--output", type=Path, default=_ARTIFACTS / "bundle", help="bundle folder")
    checked = (
        "kernel calls to compare with the reference: all, a number of each kernel, auto for a few of a large model, "
        "or none where the target cannot be checked: run then asks for --unchecked"
    )
    dumped = "write the module after each pass, kernels' TIR and assembly, and the plan to this folder"
    parser.add_argument("--debug-dump", type=Path, metavar="DIR", help=dumped)
    covered = "fail when less of the steps' multiply-adds leaves the CPU, such as 0.95 on a target with an accelerator"
    parser.add_argument("--require-coverage", type=_share, default=0.0, metavar="SHARE", help=covered)
    parser.add_argument("--check", default="auto", metavar="auto|all|N|none", help=checked)
    tuning_commands.board_option(parser, "--check-on", "run and compare it, instead of here or under qemu, on")
    parser.add_argument(
        "--emit",
        choices=("shared", "static"),
        default="shared",
        help="static adds archives and headers, to link a program with that needs no dlopen",
    )
    _store(parser)
    threads_option(parser)


def _tuning(sub: _Sub[argparse.ArgumentParser]) -> None:
    tune = _command(sub, "tune", "measure kernels' candidates; compile then uses those that are surely faster")
    tuning_commands.tune_options(tune, at_least)
    boards = _command(sub, "boards", "boards of a TVM RPC tracker: list, check against a target, bench")
    tuning_commands.boards_options(boards)
    records = _command(sub, "records", "the store of measurements: list, show, curve, merge, verify, export, prune")
    tuning_commands.records_options(records)
    for parser in (tune, boards):
        threads_option(parser)
    for parser in (tune, records):
        _store(parser)


def _store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=Path, default=_ARTIFACTS / "records", help="folder of measurements")


def _replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="what the message of compile names: OUTPUT.failed-KERNEL")
    parser.add_argument("--again", action="store_true", help="lower the kernel anew, instead of the TIR that failed")
    parser.add_argument("--tir", action="store_true", help="print its scheduled TIR")
    parser.add_argument("--disassemble", action="store_true", help="print its machine code")


def _import(parser: argparse.ArgumentParser) -> None:
    text = "ONNX file of fixed shapes; what QuantizeLinear and DequantizeLinear surround becomes integer arithmetic"
    parser.add_argument("graph", type=Path, metavar="GRAPH.onnx", help=text)
    text = "'host', a name in targets/, or a YAML file; its CPU runs the graph, whatever other backends it names"
    parser.add_argument("--target", default="host", help=text)
    text = "folder for libNAME.so with the weights inside, NAME.h that says how to call it, and report.json"
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help=text)
    text = "its inputs as numpy.savez writes them, by name: the compiled library's outputs go to DIR/out.npz"
    parser.add_argument("--run", dest="inputs", type=Path, metavar="IN.npz", help=text)
    text = (
        "NAME of library, header and function; that of the file when left out; graph_ is put before one that a library "
        "of the system has or that begins with a digit: m.onnx becomes libgraph_m.so"
    )
    parser.add_argument("--name", help=text)


def _targets(parser: argparse.ArgumentParser) -> None:
    actions = ("list", "show", "detect")
    parser.add_argument("action", choices=actions, help="show prints a target's file, detect one for this machine")
    parser.add_argument("name", nargs="?", default="host", help="of the target to show")


def _run(parser: argparse.ArgumentParser) -> None:
    _prompts(parser)
    parser.add_argument("--negative", metavar="TEXT", help="what to keep away from: takes the null caption's place")
    parser.add_argument("--bundle", type=Path, default=_ARTIFACTS / "bundle", help="what compile wrote")
    text = (
        "folder for videos and latents, or a file for one video: .mp4, .gif, .webp, .png, .apng, or .safetensors for "
        "latents; left out, a folder of its own beside the bundle: videos, videos_2, ..."
    )
    parser.add_argument("--output", type=Path, help=text)
    text = (
        "of the videos, where --output does not say: mp4 when left out; png is a folder of frames as they are, all "
        "others are enlarged by a whole factor to about 256 pixels of width where they are smaller"
    )
    parser.add_argument("--format", choices=("mp4", "gif", "webp", "apng", "png"), help=text)
    embeddings_option(parser)
    autoencoder_option(parser, "to decode with, where the bundle has no decoder; without either, latents are written")
    parser.add_argument("--count", type=at_least(1), default=1, metavar="N", help="videos of each prompt")
    asked = "; an error when the bundle was made for another"
    parser.add_argument("--sampler", help=f"rflow, ddim, iddpm, or a YAML of the step grid{asked}")
    parser.add_argument("--steps", type=at_least(1), help=f"denoising steps{asked}")
    parser.add_argument("--cfg-scale", type=float, help=f"guidance{asked}")
    signing_commands.trust_option(parser, _IF_SIGNED)
    _cores(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    _prompts(parser)
    source_options(parser)
    parser.add_argument("--bundle", type=Path, default=_ARTIFACTS / "bundle", help="made from that model")
    autoencoder_option(parser, "to decode with, where the bundle has no decoder; without either there is no sheet")
    text = "folder for figures and sheet; left out, one beside the bundle: comparison"
    parser.add_argument("--output", type=Path, help=text)
    signing_commands.trust_option(parser, _IF_SIGNED)
    _cores(parser)


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="what compile wrote; its golden input is run")
    parser.add_argument("--on", default="host", metavar="MACHINE", help="where: host is this one")
    tuning_commands.board_option(parser, "--board", "measure, instead of here, on")
    parser.add_argument("--steps", type=at_least(1), default=1, metavar="N", help="denoising steps to measure")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write every call as a trace for ui.perfetto.dev")
    parser.add_argument("--unchecked", action="store_true", help="of a bundle that was compiled with --check none")
    signing_commands.trust_option(parser, _IF_SIGNED)
    threads_option(parser)


def _diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("one", type=Path, help="bundle")
    parser.add_argument("other", type=Path, help="bundle to hold it against")


def _build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file, for example calibration/demo.yaml")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=_ARTIFACTS, help="folder for everything")
    parser.add_argument("--clips", type=at_least(1), default=200, help="clips that the judge scores")


def _prompts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="*", help="captions; the demo says how they are formed when one is unknown")
    text = "more of them: a prompt on each line, or a YAML prompt set as for calibrate"
    parser.add_argument("--prompts", type=Path, metavar="FILE", help=text)
    text = "of the first video's noise; the next ones count on (0, or that of a prompt set)"
    parser.add_argument("--seed", type=seed, help=text)
    parser.set_defaults(complain=parser.error)


def _cores(parser: argparse.ArgumentParser) -> None:
    text = "a CPU for each thread, big ones first, like 4-7,0-3"
    parser.add_argument("--cpus", type=cpus, default=(), metavar="LIST", help=text)
    text = "run a bundle that was compiled with --check none"
    parser.add_argument("--unchecked", action="store_true", help=text)
    threads_option(parser)


def _share(text: str) -> float:
    """0 to 1, what argparse shows a user's number as when it is not."""
    share = float(text)
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text}; 0.95 is 95 %")
    return share
