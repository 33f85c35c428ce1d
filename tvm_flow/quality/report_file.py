"""Scores, ranges, sensitivities and measurements of tuning as ONE self-contained HTML file."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tvm_flow.artifact import exclusive, write_bytes
from tvm_flow.calibrate import Ranges, load_ranges
from tvm_flow.errors import ConfigError
from tvm_flow.quality.field_table import NOISE, field_notes, field_rows
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.report_charts import Grid, Series, heat_map, line_chart, plain_table
from tvm_flow.quality.report_page import Section, page
from tvm_flow.quality.report_tuning import tuning_sections
from tvm_flow.quality.sensitivity import Sensitivity, load_sensitivity
from tvm_flow.quality.standings import HEADS, Verdict, cells, noise_of_fp32, verdicts
from tvm_flow.quality.trials import REFERENCE

UP = "latents, dB PSNR to FP32"
_GROUPED = re.compile(r"(?P<base>.+)-g(?P<groups>\d+)$")


@dataclass(frozen=True)
class ReportFiles:
    """What a page is made of: JSON lines of scores, a ranges file, a sensitivity file, a store of measurements.

    Scores may be absent where there are ``records``: the page is about tuning alone then.
    """

    scores: Path
    ranges: Path | None = None
    sensitivity: Path | None = None
    records: Path | None = None


def write_report(files: ReportFiles, output: Path) -> None:
    """Write the page ``output``; raises ConfigError when there are no scores, and what reading the files raises."""
    with exclusive(output):
        write_bytes(output, _page(files).encode())


def _page(files: ReportFiles) -> str:
    tuning = [] if files.records is None else tuning_sections(files.records)
    if tuning and not files.scores.exists():
        words = "Candidates of kernels against their default schedules, measured in turns."
        return page("Tuning of kernels", words, tuning)
    sections = [*_quality(files), *tuning]
    words = (
        "Every recipe runs simulated inside the float model, from the same noise as FP32. Means with their 95 percent "
        "intervals, by bootstrap over prompts and seeds."
    )
    return page("Quality of static per-step quantization", words, sections)


def _quality(files: ReportFiles) -> list[Section]:
    scores, ranges, sensitivity = files.scores, files.ranges, files.sensitivity
    found = verdicts(read_lines(scores))
    if not found:
        raise ConfigError(f"{scores}: expected scored videos, got none; run tvm-flow evaluate first")
    sections = quality_sections(found)
    if ranges is not None:
        sections.append(ranges_section(load_ranges(ranges)))
    if sensitivity is not None:
        sections.append(sensitivity_section(load_sensitivity(sensitivity)))
    return sections


def quality_sections(found: Sequence[Verdict]) -> list[Section]:
    """A table for each model, and quality against the number of step groups where recipes with several were tried."""
    sections = []
    for model in dict.fromkeys(verdict.model for verdict in found):
        mine = [verdict for verdict in found if verdict.model == model]
        rows = [(each.recipe, *cells(each)[2:]) for each in mine]
        marked = {k: "reference" for k, verdict in enumerate(mine) if verdict.recipe == REFERENCE}
        noise = next((noise_of_fp32(verdict) for verdict in mine if verdict.recipe == REFERENCE), {})
        told = ", ".join(f"{metric.replace('_', ' ')} {value:.4f}" for metric, value in noise.items())
        words = f"FP32's own standard deviation between seeds of a prompt: {told}." if told else ""
        sections.append(Section(f"Recipes, {model} model", words, plain_table((HEADS[0], *HEADS[2:]), rows, marked)))
    if fields := field_rows(found):
        marked = {k: "reference" for k, row in enumerate(fields[1:]) if row[0] in (REFERENCE, NOISE)}
        words = "Means over videos with weights from a local path. " + ". ".join(field_notes(found)) + "."
        sections.append(Section("The field's metrics", words, plain_table(fields[0], fields[1:], marked)))
    if curves := group_curves(found):
        charts = [
            f'<h3>{html.escape(base)}</h3><p class="unit">{UP}</p>'
            f'<div class="wide">{line_chart(series, "step groups", UP)}</div>'
            for base, series in curves.items()
        ]
        words = "Steps are joined to contiguous groups with common scales, by least summed error; groups cost bytes."
        sections.append(Section("Quality against step groups", words, "".join(charts)))
    return sections


def group_curves(found: Sequence[Verdict], least: int = 3) -> dict[str, list[Series]]:
    """For each recipe that was tried with ``least`` numbers of groups (NAME-gN) or more a line for each model.

    Its last point is the recipe NAME itself, with a group for each step. All points of a line are means over the same
    pairs, those that every one of them has; the line's name says how many.
    """
    curves: dict[str, dict[str, dict[int, Verdict]]] = {}
    for verdict in found:
        match = _GROUPED.match(verdict.recipe)
        base, count = match["base"] if match else verdict.recipe, max(verdict.groups) + 1
        if match or count == len(verdict.groups):
            curves.setdefault(base, {}).setdefault(verdict.model, {})[count] = verdict
    drawn = {
        base: [_curve(model, points) for model, points in models.items() if len(points) >= least]
        for base, models in curves.items()
    }
    return {base: series for base, series in drawn.items() if series}


def _curve(model: str, points: dict[int, Verdict]) -> Series:
    common = set.intersection(*(set(verdict.rows) for verdict in points.values()))
    shared = {
        count: replace(verdict, rows={pair: verdict.rows[pair] for pair in common}, to_fp32=None)
        for count, verdict in sorted(points.items())
    }
    name = f"{model}, {len(common)} pairs"
    return Series(name, tuple((count, each.interval("latent_psnr_db")) for count, each in shared.items()))


def ranges_section(ranges: Ranges) -> Section:
    """Each layer's greatest magnitude at each step, relative to its least over the steps."""
    relative = drift(ranges)
    columns = [str(step) for step in range(relative.shape[1])]
    words = (
        "The range of each quantized layer's input at each step, as a multiple of its narrowest step. A row of one "
        "shade needs one scale; a row whose shade changes needs more."
    )
    return Section(
        "Ranges over the steps",
        words,
        heat_map(tuple(ranges.layers), columns, relative, "times the narrowest", "layer"),
    )


def drift(ranges: Ranges) -> Grid:
    """[layers, steps]: the greatest magnitude of each layer's input, as a multiple of that at its narrowest step."""
    widths = np.stack([layer.absmax.max((1, 2)) for layer in ranges.layers.values()]).astype(np.float64)
    widths = np.maximum(widths, np.finfo(np.float32).tiny)
    return np.asarray(widths / widths.min(1, keepdims=True))


def sensitivity_section(found: Sensitivity) -> Section:
    """How far the final latent moves when one layer is quantized at some steps alone."""
    columns = [f"{first}-{last}" for first, last in found.windows]
    words = (
        f"Relative error of the final latent when one layer alone is quantized by {found.recipe}, at some steps alone "
        f"({len(found.prompts)} videos). The greatest are worth more bits."
    )
    content = heat_map(found.layers, columns, np.array(found.errors), "relative error", "layer")
    return Section("Sensitivity", words, content)
