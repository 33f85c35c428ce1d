"""From scored pairs to one verdict per recipe: means with intervals, FP32's own noise, equivalence to it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tvm_flow.quality.intervals import Doubles, Equivalence, Interval, equivalence, interval, seed_noise, table
from tvm_flow.quality.lines import Line
from tvm_flow.quality.trials import REFERENCE

QUALITY = ("all", "confidence", "flow", "warp_error", "clipsim", "clip_temp", "flow_score")
"""What a video is scored on by itself, so that FP32 has it, too."""
DISTANCE = (
    *("latent_psnr_db", "latent_cosine", "frames_psnr_db", "flow_error", "to_simulated_db"),
    *("lpips", "lpips_other_seed"),
)
NAMES = {"all": "judge"}
"""What a metric is called in reports, where that is another name."""
DECIDES = "confidence"
"""What equivalence is tested on, within FP32's standard deviation between seeds."""


HEADS = (
    "recipe",
    "model",
    "pairs",
    "latents, dB",
    "judge",
    "confidence",
    "flow error, px",
    "bytes a step",
    "groups",
)
"""Of a table: see `cells`."""
Pairs = dict[tuple[str, int], Line]
"""Scored pairs by prompt and seed."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """One recipe on one model; ``to_fp32`` is of `DECIDES`, and None where FP32 or the judge is missing."""

    recipe: str
    model: str
    rows: Pairs
    to_fp32: Equivalence | None

    @property
    def metrics(self) -> tuple[str, ...]:
        """What was measured, distances first."""
        measured = set().union(*self.rows.values())
        return tuple(metric for metric in (*DISTANCE, *QUALITY) if metric in measured)

    @property
    def groups(self) -> tuple[int, ...]:
        """The group of each step."""
        return tuple(next(iter(self.rows.values()))["groups"])

    @property
    def bytes_per_step(self) -> float:
        """See `Scheme`."""
        return float(next(iter(self.rows.values()))["bytes_per_step"])

    def interval(self, metric: str) -> Interval:
        """Of the mean of ``metric``."""
        return interval(_table(self.rows, metric))

    def line(self) -> dict[str, Any]:
        """The JSON line of `scripts/bench quality`; every score is [mean, low, high]."""
        found: dict[str, Any] = {"recipe": self.recipe, "model": self.model, "pairs": len(self.rows)}
        found |= {NAMES.get(metric, metric): self.interval(metric).rounded() for metric in self.metrics}
        found |= {"bytes_per_step": round(self.bytes_per_step, 1), "step_groups": max(self.groups) + 1}
        if self.to_fp32 is not None:
            found[f"{DECIDES}_to_fp32"] = self.to_fp32.difference.rounded()
            found["margin"] = round(self.to_fp32.margin, 4)
            found["equivalent_to_fp32"] = self.to_fp32.equivalent
        return found


def verdicts(lines: Iterable[Line]) -> list[Verdict]:
    """One for each recipe and model of ``lines``, in the order they first stand in.

    Of a recipe or model that was changed meanwhile the newest lines count, and of pairs those that FP32 has, too.
    """
    newest: dict[tuple[str, str], dict[str, Pairs]] = {}
    for line in lines:
        kept = newest.setdefault((line["model"], line["recipe"]), {})
        pairs = kept.pop(line["key"], {})
        pairs[line["prompt"], line["seed"]] = line
        kept[line["key"]] = pairs  # the last one written to is last
    found = {key: list(kept.values())[-1] for key, kept in newest.items()}
    return [_verdict(key, pairs, found.get((key[0], REFERENCE), {})) for key, pairs in found.items()]


def text_table(found: Iterable[Verdict], markdown: bool = False) -> str:
    """A line for each verdict: mean and 95 percent interval."""
    rows = [HEADS, *(cells(verdict) for verdict in found)]
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|" + "---|" * len(HEADS), *lines[1:]])
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADS))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)


def cells(verdict: Verdict) -> tuple[str, ...]:
    """What stands under `HEADS`."""
    shown = {"latent_psnr_db": 2, "all": 3, "confidence": 4, "flow_error": 3}
    cells = []
    for metric, digits in shown.items():
        if metric not in verdict.metrics:
            cells.append("-")
        elif verdict.recipe == REFERENCE and metric in DISTANCE:
            cells.append("itself")
        else:
            mean, low, high = (f"{value:.{digits}f}" for value in verdict.interval(metric).rounded(digits))
            cells.append(f"{mean} [{low}, {high}]")
    head = (verdict.recipe, verdict.model, str(len(verdict.rows)))
    return (*head, *cells, f"{verdict.bytes_per_step:.0f}", str(max(verdict.groups) + 1))


def compared(ours: Verdict, other: Verdict, metric: str, margin: float) -> Equivalence:
    """Mean of ``ours`` less that of ``other`` in ``metric``, over the pairs that both have."""
    both = [pair for pair in ours.rows if pair in other.rows]
    a, b = ({pair: each.rows[pair] for pair in both} for each in (ours, other))
    return equivalence(_table(a, metric), _table(b, metric), margin)


def noise_of_fp32(reference: Verdict) -> dict[str, float]:
    """Standard deviation between seeds of the same prompt, by metric: what a difference has to be held against."""
    return {metric: seed_noise(_table(reference.rows, metric)) for metric in QUALITY if metric in reference.metrics}


def _verdict(key: tuple[str, str], pairs: Pairs, reference: Pairs) -> Verdict:
    model, recipe = key
    both = {pair: row for pair, row in pairs.items() if pair in reference}
    verdict = Verdict(recipe, model, both or pairs, None)
    if not both or DECIDES not in verdict.metrics or recipe == REFERENCE:
        return verdict
    margin = seed_noise(_table(reference, DECIDES))
    exact = Verdict(REFERENCE, model, reference, None)
    return verdict if math.isnan(margin) else replace(verdict, to_fp32=compared(verdict, exact, DECIDES, margin))


def _table(pairs: Pairs, metric: str) -> Doubles:
    return table({pair: row.get(metric, math.nan) for pair, row in pairs.items()})
