"""Two pictures of their own, for a README: quality against step groups, and ranges that drift over the steps.

SVG files that need nothing else and follow the reader's light or dark. The same scores and ranges give the same bytes.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_flow.artifact import write_bytes
from tvm_flow.calibrate import Ranges, load_ranges
from tvm_flow.errors import ConfigError
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.report_charts import HEIGHT, SHADES, WIDTH, Grid, Series, line_chart, shaded
from tvm_flow.quality.report_file import UP, drift, group_curves
from tvm_flow.quality.report_page import CHART, PALETTE
from tvm_flow.quality.standings import Verdict, verdicts

GROUPS, DRIFT = "groups.svg", "drift.svg"
MOST_ROWS = 64
"""Of the picture of ranges: of a larger model those layers that drift most."""
_HEAD, _NAMES, _CELL, _ROW = 30, 195, 23, 11
_TEXT = (
    "text { font: 13px system-ui, sans-serif; fill: var(--soft); } .row { font-size: 9px; } "
    ".paper { fill: var(--paper); }"
)
_FILLS = " ".join(f".h{k} {{ fill: var(--h{k}); }}" for k in range(SHADES))


def groups_picture(found: Sequence[Verdict]) -> str:
    """Quality against the number of step groups: a line for each recipe and model that was tried with two or more.

    Raises ConfigError when there is none.
    """
    curves = group_curves(found, least=2)
    series = [Series(f"{base}, {each.name}", each.points) for base, lines in curves.items() for each in lines]
    if not series:
        raise ConfigError(
            "groups: expected scores of a recipe with several numbers of step groups, got none; run tvm-flow evaluate "
            "static-w8a8 static-w8a8-g1 first"
        )
    chart = line_chart(series, "step groups", UP)
    return _picture(f"{UP}, against step groups", (WIDTH, HEIGHT), chart)


def drift_picture(ranges: Ranges) -> str:
    """A row for each layer, a column for each step, shaded by the layer's range over its narrowest."""
    values, names = drift(ranges), list(ranges.layers)
    kept = sorted(sorted(range(len(names)), key=lambda row: -values[row].max())[:MOST_ROWS])
    names, values = [names[row] for row in kept], values[kept]
    steps = values.shape[1]
    parts = _cells(names, values)
    parts += [
        f'<text x="{_NAMES + _CELL * k + _CELL / 2}" y="{_HEAD - 6}" text-anchor="middle" class="row">{k}</text>'
        for k in range(steps)
    ]
    size = _NAMES + _CELL * steps + 10, _HEAD + _ROW * len(names) + 34
    parts += _key(values, size[1] - 10)
    return _picture("Range of each layer's input at each denoising step", size, "".join(parts))


def write_pictures(scores: Path, ranges: Path | None, folder: Path) -> list[Path]:
    """Write `GROUPS` of the JSON lines ``scores`` and, of a ranges file, `DRIFT` into ``folder``; returns their paths.

    Raises as `groups_picture` and what reading the files raises.
    """
    pictures = {GROUPS: groups_picture(verdicts(read_lines(scores)))}
    if ranges is not None:
        pictures[DRIFT] = drift_picture(load_ranges(ranges))
    for name, content in pictures.items():
        write_bytes(folder / name, content.encode())
    return [folder / name for name in pictures]


def _cells(names: Sequence[str], values: Grid) -> list[str]:
    """The names of the rows, and a path of boxes for each shade."""
    shades, _ = shaded(values)
    parts = [
        f'<text x="{_NAMES - 6}" y="{_HEAD + _ROW * (row + 1) - 2}" text-anchor="end" class="row">'
        f"{html.escape(name)}</text>"
        for row, name in enumerate(names)
    ]
    for shade in range(SHADES):
        boxes = "".join(
            f"M{_NAMES + _CELL * column} {_HEAD + _ROW * row}h{_CELL - 1}v{_ROW - 1}h{1 - _CELL}"
            for row, column in np.argwhere(shades == shade)
        )
        parts.append(f'<path class="h{shade}" d="{boxes}"/>')
    return parts


def _key(values: Grid, y: int) -> list[str]:
    _, ends = shaded(values)
    begin = 60
    parts = [f'<rect x="{begin + 24 * k}" y="{y - 12}" width="23" height="12" class="h{k}"/>' for k in range(SHADES)]
    parts.append(f'<text x="{begin - 6}" y="{y}" text-anchor="end">{ends.low:.3g}</text>')
    words = html.escape(f"{ends.high:.3g} times the narrowest step{ends.words}")
    return [*parts, f'<text x="{begin + 24 * SHADES + 6}" y="{y}">{words}</text>']


def _picture(title: str, size: tuple[int, int], content: str) -> str:
    """A file of its own around an SVG element of ``size``."""
    width, height = size
    words = html.escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -24 {width} {height + 24}" role="img" '
        f'aria-label="{words}">'
        f"<style>{PALETTE}{_TEXT}{CHART}{_FILLS}</style>"
        f'<rect class="paper" y="-24" width="{width}" height="{height + 24}"/><text x="8" y="-6">{words}</text>'
        f'<svg width="{width}" height="{height}">{content}</svg></svg>\n'
    )
