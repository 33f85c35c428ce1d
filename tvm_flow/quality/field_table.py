"""The table of the field's metrics: a recipe's means with intervals, FP32's own noise below, and what to make of them.

The last line of a model is what a difference has to be held against. Of a score that FP32 has by itself it is the
standard deviation between seeds of a prompt; of a distance it is FP32's own to another seed. Scores by other weights
than FP32's of the same model are left out, and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tvm_flow.quality.frechet import Features, fvd, fvd_between_seeds, least_videos
from tvm_flow.quality.intervals import Interval
from tvm_flow.quality.standings import Verdict, noise_of_fp32
from tvm_flow.quality.trials import MEASURED, REFERENCE

DIGITS = {"lpips": 4, "clipsim": 4, "clip_temp": 4, "flow_score": 3, "fvd": 1}
"""The columns, and decimals of each."""
HEADS = ("recipe", "model", "pairs")
NOISE = "FP32's seeds"
"""What stands for a recipe in the last line of a model."""
NOTES = {
    "lpips": "lpips: 0 is equal to FP32's frames at equal noise",
    "clipsim": (
        "clipsim rises for broken videos (ViDiT-Q: .180 for FP16, .196 for a static W8A8 whose VQA-technical fell from "
        "50 to 26): it decides nothing alone"
    ),
    "clip_temp": "clip_temp: a still picture has 1",
    "flow_score": "flow_score: more motion is not better; near FP32's is",
    "fvd": "fvd: to FP32's videos of the same prompts and noise; larger for fewer videos: compare equal numbers alone",
}
_FEATURES = "video_features"


def field_columns(found: Sequence[Verdict]) -> tuple[str, ...]:
    """Those of `DIGITS` that any of ``found`` has."""
    measured = {metric for verdict in found for metric in verdict.metrics}
    measured |= {"fvd"} if any(_features(verdict) for verdict in found) else set()
    return tuple(metric for metric in DIGITS if metric in measured)


def field_rows(found: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """`HEADS` and `field_columns`, then a line for each verdict that has some, models together; none without any."""
    columns = field_columns(found)
    if not columns:
        return []
    rows: list[tuple[str, ...]] = [(*HEADS, *columns)]
    for model in dict.fromkeys(verdict.model for verdict in found):
        mine = [verdict for verdict in found if verdict.model == model and field_columns([verdict])]
        exact = next((verdict for verdict in mine if verdict.recipe == REFERENCE), None)
        for each in (verdict for verdict in mine if _weights(verdict) == _weights(exact or verdict)):
            cells = (_cell(_measured(each, metric, exact), metric) for metric in columns)
            rows.append((each.recipe, model, str(len(each.rows)), *cells))
        if exact is not None:
            rows.append((NOISE, model, str(len(exact.rows)), *(_noise(exact, metric) for metric in columns)))
    return rows


def field_notes(found: Sequence[Verdict]) -> list[str]:
    """What to make of each column, and why FVD is missing where it is."""
    notes = [NOTES[metric] for metric in field_columns(found)]
    weights = {verdict.model: _weights(verdict) for verdict in found if verdict.recipe == REFERENCE}
    for verdict in found:
        features = _features(verdict)
        if field_columns([verdict]) and _weights(verdict) != weights.get(verdict.model, _weights(verdict)):
            notes.append(f"{verdict.recipe}, {verdict.model}: not shown: other weights than fp32's; evaluate both")
        if features and len(features) < least_videos(features):
            words = f"{verdict.recipe}, {verdict.model}: fvd needs {least_videos(features)} videos, got {len(features)}"
            notes.append(f"{words}: with fewer a covariance of so many features says nothing")
    return notes


def field_text(found: Sequence[Verdict]) -> str:
    """The table and its notes in plain text; empty where nothing was measured."""
    if not (rows := field_rows(found)):
        return ""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *field_notes(found)])


def _features(verdict: Verdict) -> Features:
    return {
        pair: cast("list[float]", row[_FEATURES])
        for pair, row in verdict.rows.items()
        if row.get(_FEATURES) is not None
    }


def _weights(verdict: Verdict) -> object:
    return next(iter(verdict.rows.values())).get(MEASURED)


def _measured(verdict: Verdict, metric: str, exact: Verdict | None) -> Interval | str | None:
    """In words where FP32 is at no distance from itself, None where there is nothing to be said."""
    if verdict.recipe == REFERENCE and metric in ("lpips", "fvd"):
        return "itself"
    if metric != "fvd":
        return verdict.interval(metric) if metric in verdict.metrics else None
    return None if exact is None else fvd(_features(verdict), _features(exact))


def _cell(value: Interval | str | None, metric: str) -> str:
    if not isinstance(value, Interval):
        return value or "-"
    mean, low, high = (f"{each:.{DIGITS[metric]}f}" for each in value.rounded(DIGITS[metric]))
    return f"{mean} [{low}, {high}]"


def _noise(exact: Verdict, metric: str) -> str:
    if metric == "lpips":
        other = "lpips_other_seed"
        return _cell(exact.interval(other) if other in exact.metrics else None, metric)
    noise = fvd_between_seeds(_features(exact)) if metric == "fvd" else noise_of_fp32(exact).get(metric)
    return "-" if noise is None or noise != noise else f"{noise:.{DIGITS[metric]}f}"
