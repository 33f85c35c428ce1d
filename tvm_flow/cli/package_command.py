"""``tvm-flow package``: its options, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path

from tvm_flow.cli.argument_types import cpus
from tvm_flow.shipped import output_folder

_ACCELERATORS = tuple(f"ethos-u{name}" for name in ("55-256", "65-512", "85-256", "85-512", "85-1024", "85-2048"))
_SOCS = ("sm8550", "sm8650", "sm8750", "sm8850")


def package_options(parser: argparse.ArgumentParser) -> None:
    """Of ``package``."""
    parser.add_argument("export", type=Path, nargs="?", default=output_folder() / "export", help="what export wrote")
    text = "accelerator to compile command streams for: of linears, or of a recipe's blocks in integers"
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--ethos-u", choices=_ACCELERATORS, default="ethos-u85-512", help=text)
    text = "Qualcomm's SoC to make the linears' context binaries for and to run them emulated (extra npu-qualcomm)"
    device.add_argument("--qualcomm", choices=_SOCS, metavar="SOC", help=f"{text}: {', '.join(_SOCS)}")
    text = "of the export, like 0 or 0-4,9; equal calls share a stream"
    parser.add_argument("--steps", type=_steps, default=(0,), metavar="STEPS", help=text)
    text = "join the steps to N contiguous clusters that share scales and streams; bytes and noise of each N are said"
    parser.add_argument("--clusters", type=int, metavar="N", help=text)
    text = "folder for the files; left out, one beside the export, named by the accelerator or SoC"
    parser.add_argument("--output", type=Path, help=text)


def package(arguments: argparse.Namespace) -> None:
    """Write the package of an export's linears, or blocks in integers, for an Ethos-U or Qualcomm's HTP."""
    from tvm_flow.compile.step_members import PackageOptions
    from tvm_flow.pipeline.packaging import package_stage

    given = arguments
    device = given.qualcomm or given.ethos_u
    output = given.export.parent / device if given.output is None else given.output
    options = PackageOptions(device, given.steps, given.clusters)
    for line in package_stage(given.export, options, output).lines():
        print(line)
    print(f"package: {output}")


def _steps(text: str) -> tuple[int, ...]:
    """Numbers and ranges, in order."""
    try:
        return tuple(sorted(cpus(text)))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected steps like 0 or 0-4,9, each once, got {text!r}") from None
