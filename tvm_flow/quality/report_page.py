"""The frame of the report: one page that needs nothing else, light and dark, wide and narrow."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A heading, what it shows in a sentence or two, and its content as HTML."""

    title: str
    words: str
    content: str


def page(title: str, words: str, sections: Sequence[Section]) -> str:
    """The whole file."""
    links = " ".join(f'<a href="#s{k}">{html.escape(each.title)}</a>' for k, each in enumerate(sections))
    body = "".join(
        f'<section id="s{k}"><h2>{html.escape(each.title)}</h2><p>{html.escape(each.words)}</p>{each.content}</section>'
        for k, each in enumerate(sections)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{PALETTE}{_STYLE}{CHART}{_SHADES}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(words)}</p><nav>{links}</nav>{body}</main></body></html>\n"
    )


PALETTE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1b1b1a; --soft: #5c5b57; --rule: #dedcd6; --mark: #f1efe9;
  --c1: #2a78d6; --c2: #1baf7a; --c3: #c98500; --c4: #008300; --c5: #4a3aa7; --c6: #c9312f;
  --h0: #e4eefb; --h1: #c4dcf7; --h2: #9ec5f2; --h3: #74abea; --h4: #4c90df; --h5: #2a73c8; --h6: #1a56a0;
  --h7: #0d366b; }
@media (prefers-color-scheme: dark) { :root { --paper: #191918; --ink: #f2f1ed; --soft: #b3b1a9; --rule: #3a3936;
  --mark: #252523; --c1: #5b9be6; --c2: #2ebd8a; --c3: #d99a1f; --c4: #3aa53a; --c5: #9085e9; --c6: #e66767;
  --h0: #1d2a3a; --h1: #1f3c5e; --h2: #23507f; --h3: #2a66a3; --h4: #3b80c6; --h5: #5f9ee0; --h6: #93c0f0;
  --h7: #cfe3fa; } }
"""
CHART = """
.grid { stroke: var(--rule); } .series polyline { fill: none; stroke-width: 2; } .series text { fill: var(--ink); }
.mark circle { stroke: var(--paper); stroke-width: 2; } .mark line { stroke-width: 2; opacity: .55; }
""" + " ".join(
    f".c{k} polyline, .c{k} .mark line {{ stroke: var(--c{k}); }} .c{k} circle {{ fill: var(--c{k}); }}"
    for k in range(1, 7)
)
"""The style of `report_charts.line_chart`, in the colours of `PALETTE`."""
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0; }
p { max-width: 46rem; margin: 0 0 1rem; } nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
nav a { color: var(--c1); padding: .25rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scores { font-size: .875rem; } .scores th, .scores td { text-align: left; padding: .3rem .75rem .3rem 0;
  white-space: nowrap; border-bottom: 1px solid var(--rule); } .scores th { color: var(--soft); font-weight: 600; }
.scores .reference td { background: var(--mark); }
.heat { font-size: .75rem; } .heat th { font-weight: 400; color: var(--soft); text-align: right; padding: 0 .4rem 0 0;
  white-space: nowrap; } .heat tr:first-child th { padding: 0; text-align: center; }
.heat td { min-width: 1.1rem; height: 1.1rem; border: 1px solid var(--paper); }
.heat tr:first-child th:first-child, .heat tr > th:first-child { position: sticky; left: 0; background: var(--paper); }
.key, .unit { font-size: .875rem; color: var(--soft); margin: .5rem 0; }
.key span { vertical-align: middle; display: inline-block; width: 1.4rem; height: .8rem; }
.split { display: flex; height: 1rem; max-width: 46rem; margin: .5rem 0; gap: 2px; }
.p1 { background: var(--c1); } .p2 { background: var(--c2); } .p3 { background: var(--c3); }
svg { display: block; width: 100%; max-width: 46rem; min-width: 30rem; overflow: visible;
  font-size: 13px; fill: var(--soft); }
"""
_SHADES = " ".join(f".h{k} {{ background: var(--h{k}); }}" for k in range(8))
