"""``tvm-flow mix``: its options, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from tvm_flow.shipped import output_folder

Add = Callable[[argparse.ArgumentParser], None]


def mix_options(parser: argparse.ArgumentParser, tried: Add, whole: Callable[[int], Callable[[str], int]]) -> None:
    """Of ``mix``; ``tried`` adds those of all commands that try recipes."""
    parser.add_argument("recipe", nargs="?", default="static-w8a8", help="name or YAML file, that of --sensitivity")
    text = "what sensitivity wrote for that recipe; --windows 1 is best where only bytes count"
    parser.add_argument("--sensitivity", type=Path, default=output_folder() / "sensitivity.json", help=text)
    parser.add_argument("--bytes", type=whole(1), metavar="N", help="the weights may be so many bytes larger")
    text = "the linears' multiply-adds over all steps of which so much may be done in float, such as 0.05"
    parser.add_argument("--macs", type=_share, metavar="SHARE", help=text)
    text = "what is kept is in float, or has weights of 8 bits where the recipe has fewer"
    parser.add_argument("--to", choices=("float", "int8"), default="float", help=text)
    tried(parser)
    parser.add_argument("--count", type=whole(1), default=4, metavar="N", help="videos that a mixture is measured on")
    parser.add_argument("--output", type=Path, default=output_folder() / "mixed.yaml", help="the recipe")
    parser.set_defaults(complain=parser.error)


def mix(arguments: argparse.Namespace) -> None:
    """Write the recipe that keeps what is worth keeping under a budget."""
    given = arguments
    if given.bytes is None and given.macs is None:
        given.complain("expected a budget: --bytes N, --macs SHARE, or both")
    from tvm_flow.pipeline.asked import read_prompts
    from tvm_flow.pipeline.evaluating import EvaluationRequest, mix_stage
    from tvm_flow.pipeline.source import load_source
    from tvm_flow.quality.budget import Budget
    from tvm_flow.quality.mixed_recipe import summary_of
    from tvm_flow.quality.trials import crossed

    budget = Budget(given.bytes, given.macs, given.to)
    prompts, seed = read_prompts([], given.prompts, given.seed)
    pairs = tuple(crossed(prompts[: given.count], [seed]))
    source = load_source(given.model, given.sampler, given.latent, given.captions, None, given.config)
    request = EvaluationRequest((given.recipe,), pairs, given.calibration, given.output, given.outliers)
    mixed = mix_stage(source, request, given.sensitivity, budget)
    print(f"{given.recipe}: {summary_of(mixed)}")
    print(f"recipe: {given.output}")


def _share(text: str) -> float:
    """Above 0, to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share above 0, up to 1, got {text!r}; 0.05 is 5 %")
    return share
