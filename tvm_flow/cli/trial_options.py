"""The options of commands that try recipes, and of the report on them."""

from __future__ import annotations

import argparse
from pathlib import Path

from tvm_flow.cli.argument_types import at_least, seed
from tvm_flow.cli.shared_options import autoencoder_option, shard_options, source_options
from tvm_flow.shipped import output_folder, shipped_folder

_CALIBRATION = shipped_folder("calibration")
_SCORES = output_folder() / "evaluation.jsonl"
_RECIPES = ("fp32", "dynamic-w8a8", "static-asq-w8a8", "static-w8a8")


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="*", default=list(_RECIPES), help="names (see --list-recipes) or YAML files")
    parser.add_argument("--list-recipes", action="store_true", help="print the names and do nothing else")
    tried_options(parser)
    parser.add_argument("--count", type=at_least(1), metavar="N", help="only the first N of its prompts")
    parser.add_argument("--seeds", type=at_least(1), default=3, metavar="N", help="videos of each prompt")
    parser.add_argument("--batch", type=at_least(1), default=12, metavar="N", help="videos at a time")
    text = "folder of a bundle of that model, tried beside the recipe that it was quantized by"
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help=text)
    text = (
        "score frames also by this one, with weights from a local path; may be repeated: lpips, clipsim, clip-temp, "
        "flow-score, fvd (extra: metrics; without PATH it says what is wanted there)"
    )
    parser.add_argument("--metric", action="append", default=[], metavar="NAME:PATH", help=text)
    autoencoder_option(parser, "whose frames are scored, too; the demo has its own")
    text = "file of JSON lines, one for each video; what it has is not made again"
    parser.add_argument("--output", type=Path, default=_SCORES, help=text)
    shard_options(parser, "batches")


def sensitivity_options(parser: argparse.ArgumentParser) -> None:
    text = "name or YAML file; each layer alone is quantized by it"
    parser.add_argument("recipe", nargs="?", default="static-w8a8", help=text)
    tried_options(parser)
    parser.add_argument("--count", type=at_least(1), default=2, metavar="N", help="videos")
    text = "parts of the trajectory, each tried alone"
    parser.add_argument("--windows", type=at_least(1), default=5, metavar="N", help=text)
    parser.add_argument("--output", type=Path, default=output_folder() / "sensitivity.json", help="what report reads")


def tried_options(parser: argparse.ArgumentParser) -> None:
    source_options(parser)
    text = "prompt set: what to make, and the seed of the first noise"
    parser.add_argument("--prompts", type=Path, default=_CALIBRATION / "evaluation.yaml", metavar="FILE", help=text)
    parser.add_argument("--seed", type=seed, help="of the first, instead of the prompt set's; the next ones count on")
    text = "prompt set that recipes are fitted on"
    parser.add_argument("--calibration", type=Path, default=_CALIBRATION / "prompts.yaml", metavar="FILE", help=text)
    text = "YAML of outlier channels to insert into the model first, which computes the same"
    parser.add_argument("--outliers", type=Path, metavar="FILE", help=text)


def report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scores", type=Path, default=_SCORES, help="what evaluate wrote")
    parser.add_argument("--ranges", type=Path, help="what calibrate wrote: adds the ranges over the steps")
    parser.add_argument("--sensitivity", type=Path, help="what sensitivity wrote: adds its map")
    text = "folder of measurements that tune wrote: adds kernels before and after; scores may be absent then"
    parser.add_argument("--records", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--output", type=Path, default=output_folder() / "report.html", help="the page")
    text = "folder for groups.svg and, with --ranges, drift.svg: the pictures of the README"
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help=text)
