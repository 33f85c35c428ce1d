"""Charts of the report as inline SVG and HTML: they scale with the page and take its colours."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tvm_flow.quality.intervals import Interval

Grid = NDArray[np.float64]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 750, 300, 46, 34, 12, 250
SHADES = 8
"""Steps of a heat map's colour, from the least to the greatest value."""


@dataclass(frozen=True)
class Series:
    """A line: ``points`` are x and the interval of y."""

    name: str
    points: tuple[tuple[float, Interval], ...]


def line_chart(series: Sequence[Series], across: str, up: str) -> str:
    """An SVG of lines with whiskers over a logarithmic x axis; each is named at its end."""
    xs = sorted({x for each in series for x, _ in each.points})
    ys = [value for each in series for _, i in each.points for value in (i.low, i.high)]
    low, high = _nice(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        span = math.log(xs[-1] / xs[0]) or 1.0
        right = WIDTH - RIGHT - LEFT
        return LEFT + math.log(x / xs[0]) / span * right, TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(low, high, place), *(_tick(x, place) for x in xs)]
    names = _spread([place(each.points[-1][0], each.points[-1][1].mean)[1] for each in series])
    parts += [_line(k % 6 + 1, each, place, y) for k, (each, y) in enumerate(zip(series, names, strict=True))]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(across)}</text>')
    label = html.escape(f"{up} against {across}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _line(color: int, series: Series, place: object, name_y: float) -> str:
    assert callable(place)
    at = [(*place(x, i.mean), place(x, i.low)[1], place(x, i.high)[1], x, i) for x, i in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in at)
    marks = "".join(
        f'<g class="mark"><line x1="{x:.1f}" x2="{x:.1f}" y1="{a:.1f}" y2="{b:.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><title>{html.escape(series.name)}, {g:g}: '
        f"{i.mean:.2f} [{i.low:.2f}, {i.high:.2f}]</title></g>"
        for x, y, a, b, g, i in at
    )
    name = f'<text x="{at[-1][0] + 10:.1f}" y="{name_y + 4:.1f}">{html.escape(series.name)}</text>'
    return f'<g class="series c{color}"><polyline points="{path}"/>{marks}{name}</g>'


def _grid(low: float, high: float, place: object) -> str:
    assert callable(place)
    parts = []
    for value in np.linspace(low, high, 5):
        y = place(1e-9, float(value))[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    return "".join(parts)


def _tick(x: float, place: object) -> str:
    assert callable(place)
    return f'<text x="{place(x, 0)[0]:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>'


def _nice(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis of four equal parts that are whole multiples of 1, 2 or 5."""
    span = max(high - low, 1e-6)
    step = 10 ** math.floor(math.log10(span / 4))
    for factor in (1, 2, 2.5, 5, 10, 20):
        begin = math.floor(low / (step * factor)) * step * factor
        if begin + 4 * step * factor >= high:
            return begin, begin + 4 * step * factor
    return low, high


def _spread(places: Sequence[float], least: float = 15.0) -> list[float]:
    """Names side by side, none over another, in the order of their lines."""
    out = list(places)
    order = sorted(range(len(out)), key=lambda k: out[k])
    for before, after in pairwise(order):
        out[after] = max(out[after], out[before] + least)
    return out


@dataclass(frozen=True)
class Ends:
    """Of the values that shades stand for."""

    low: float
    high: float

    @property
    def logarithmic(self) -> bool:
        return self.low > 0 and self.high / self.low > 3

    @property
    def words(self) -> str:
        return ", logarithmic" if self.logarithmic else ""


def shaded(values: Grid) -> tuple[NDArray[np.int64], Ends]:
    """Shades 0 to `SHADES` - 1, evenly between the ends of ``values``, of their logarithms where they span 3 times."""
    finite = values[np.isfinite(values)]
    ends = Ends(float(finite.min()), float(finite.max()))
    scaled = np.log(np.maximum(values, ends.low)) if ends.logarithmic else values
    bottom, top = (math.log(ends.low), math.log(ends.high)) if ends.logarithmic else (ends.low, ends.high)
    return np.clip((scaled - bottom) / max(top - bottom, 1e-30) * SHADES, 0, SHADES - 1).astype(np.int64), ends


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Grid, unit: str, corner: str) -> str:
    """A table whose cells are shaded: see `shaded`."""
    shades, ends = shaded(values)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(
            f'<td class="h{shade}" title="{html.escape(name)}, {html.escape(column)}: {value:.3g} {unit}"></td>'
            for column, value, shade in zip(columns, row, shade_row, strict=True)
        )
        + "</tr>"
        for name, row, shade_row in zip(rows, values, shades, strict=True)
    )
    key = "".join(f'<span class="h{k}"></span>' for k in range(SHADES))
    return (
        f'<p class="key">{ends.low:.3g} {key} {ends.high:.3g} {html.escape(unit)}{ends.words}</p><div class="wide">'
        f'<table class="heat"><tr><th>{html.escape(corner)}</th>{head}</tr>{body}</table></div>'
    )


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]], marked: Mapping[int, str] | None = None) -> str:
    """A table with a class for each row in ``marked``."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(
        f'<tr class="{(marked or {}).get(k, "")}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for k, row in enumerate(rows)
    )
    return f'<div class="wide"><table class="scores"><tr>{head}</tr>{body}</table></div>'
