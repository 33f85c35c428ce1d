"""``scripts/bench quality``: recipes beside FP32, simulated, on the demo model, plain and with outliers inserted.

    {"recipe", "model": "plain"|"outliers", "pairs", "latent_psnr_db": [mean, low, high], "judge": [mean, low, high],
     "confidence", "flow", "flow_error", "warp_error": likewise, "bytes_per_step", "step_groups",
     "confidence_to_fp32": [difference, low, high], "margin", "equivalent_to_fp32"}

One line a recipe and model; intervals are 95 percent, by bootstrap over prompts and seeds, of the difference to FP32 90
percent, as two one-sided tests at 5 percent take them. The margin is FP32's standard deviation between seeds. What is
done is kept in the file, so that another call goes on: with 216 pairs it takes minutes for each recipe and model.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.pipeline.asked import read_prompts
from tvm_flow.pipeline.evaluating import EvaluationRequest, evaluate_stage
from tvm_flow.pipeline.source import load_source
from tvm_flow.quality.intervals import Equivalence
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.standings import Verdict, compared, noise_of_fp32, text_table, verdicts
from tvm_flow.quality.trials import REFERENCE, crossed
from tvm_flow.quantize.named_recipes import recipe_names
from tvm_flow.shipped import shipped_folder

MAIN = (
    *("fp32", "fp16", "dynamic-w8a8", "static-w8a8", "static-asq-w8a8", "static-w8a8-nosmooth", "static-w8a8-kv32"),
    *("static-free-w8a8", "static-free-w8a8-g1", "static-w8a8-alphas", "dynamic-w4a8", "static-w4a8"),
    *("static-free-w4a8", "static-free-w4a8-g1", "static-w6a6", "static-w4a6", "static-free-w4a6"),
    *("dynamic-w8a4", "static-w8a4", "static-asq-w8a4", "static-free-w8a4", "static-asq-w8a8-nosmooth"),
    *("static-w8a8-g1", "static-w8a8-g2", "static-w8a8-g5", "static-w8a4-g1", "static-w8a4-g2", "static-w8a4-g5"),
)
"""The recipes of the README's table."""
CLAIMS = (
    ("static-w8a8", "fp32", "confidence"),
    ("static-w8a8", "fp32", "flow"),
    ("static-w8a8", "fp32", "warp_error"),
    ("static-w8a8", "dynamic-w8a8", "confidence"),
    ("static-free-w8a8-g1", "fp32", "confidence"),
    ("static-free-w8a8-g1", "static-w8a8", "confidence"),
    ("static-w4a8", "fp32", "confidence"),
    ("static-w8a8", "dynamic-w8a8", "latent_psnr_db"),
    ("static-free-w8a8-g1", "static-w8a8", "latent_psnr_db"),
    ("static-w8a8", "static-asq-w8a8", "latent_psnr_db"),
    ("static-w8a8-kv32", "static-w8a8", "latent_psnr_db"),
    ("static-free-w4a8-g1", "static-w4a8", "latent_psnr_db"),
    ("static-w4a8", "dynamic-w4a8", "latent_psnr_db"),
)
"""What is held against what on each model, in which metric; printed to stderr whatever comes out.

The margin is FP32's standard deviation between seeds; of a distance to FP32, which has none, it is 0, so that only "not
below" can be shown.
"""
CLAIM_HEADS = ("model", "less", "in", "difference, 90 percent interval", "margin", "shown")


def main(arguments: list[str]) -> None:
    """Evaluate, and print the lines."""
    calibration = shipped_folder("calibration")
    parser = argparse.ArgumentParser(prog="scripts/bench quality", description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=list(MAIN), help="names, or all (default: those of the README)")
    parser.add_argument("--models", nargs="+", default=["plain", "outliers"], help="plain, outliers (default: both)")
    parser.add_argument("--count", type=int, default=72, help="prompts (default: 72)")
    parser.add_argument("--seeds", type=int, default=3, help="of each prompt (default: 3)")
    parser.add_argument("--output", type=Path, default=Path("artifacts/quality.jsonl"), help="file of scored pairs")
    parser.add_argument("--markdown", action="store_true", help="print the table for the README to stderr, too")
    options = parser.parse_args(arguments)
    prompts, seed = read_prompts([], calibration / "evaluation.yaml", None)
    pairs = tuple(crossed(prompts[: options.count], range(seed, seed + options.seeds)))
    recipes = recipe_names() if options.recipes == ["all"] else tuple(options.recipes)
    for model in options.models:
        outliers = calibration / "outliers.yaml" if model == "outliers" else None
        request = EvaluationRequest(recipes, pairs, calibration / "prompts.yaml", options.output, outliers)
        evaluate_stage(load_source(), request)
    found = [verdict for verdict in verdicts(read_lines(options.output)) if verdict.recipe in recipes]
    for verdict in found:
        print(json.dumps(verdict.line()))
    print("\n".join(claims(found)), file=sys.stderr)
    if options.markdown:
        print(text_table(found, markdown=True), file=sys.stderr)
        print(claim_table(held_claims(found)), file=sys.stderr)


@dataclass(frozen=True)
class Claim:
    """``ours`` less ``other`` in ``metric`` on ``model``, and what two one-sided tests show of it."""

    model: str
    ours: str
    other: str
    metric: str
    held: Equivalence

    @property
    def shown(self) -> str:
        if math.isnan(self.held.margin):
            return "nothing, of one seed"
        return "equivalent" if self.held.equivalent else "not below" if self.held.not_below else "below, or not shown"

    @property
    def difference(self) -> str:
        mean, low, high = self.held.difference.rounded()
        return f"{mean} [{low}, {high}]"

    def __str__(self) -> str:
        less = f"{self.model}: {self.ours} less {self.other}, {self.metric}"
        return f"{less}: {self.difference}, margin {self.held.margin:.4f}: {self.shown}"


def claims(found: list[Verdict]) -> list[str]:
    """FP32's own noise, and each of `CLAIMS` on every model that has both."""
    noise = {
        verdict.model: ", ".join(f"{metric} {value:.4f}" for metric, value in noise_of_fp32(verdict).items())
        for verdict in found
        if verdict.recipe == REFERENCE
    }
    lines = [f"{model}: FP32 between seeds, standard deviation: {words}" for model, words in noise.items()]
    return [*lines, *map(str, held_claims(found))]


def held_claims(found: list[Verdict]) -> list[Claim]:
    """What of `CLAIMS` can be held against each other, models in order of their names."""
    by_name = {(verdict.recipe, verdict.model): verdict for verdict in found}
    made = []
    for model in sorted({model for _, model in by_name}):
        reference = by_name.get((REFERENCE, model))
        noise = {} if reference is None else noise_of_fp32(reference)
        for ours, other, metric in CLAIMS:
            a, b = by_name.get((ours, model)), by_name.get((other, model))
            if a is not None and b is not None and metric in a.metrics and metric in b.metrics:
                made.append(Claim(model, ours, other, metric, compared(a, b, metric, noise.get(metric, 0.0))))
    return made


def claim_table(made: list[Claim]) -> str:
    """For the README."""
    rows = [
        (
            each.model,
            f"{each.ours} less {each.other}",
            each.metric,
            each.difference,
            f"{each.held.margin:.4f}",
            each.shown,
        )
        for each in made
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (CLAIM_HEADS, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(CLAIM_HEADS), *lines[1:]])
