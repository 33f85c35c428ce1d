"""The report's part on tuning: kernels before and after, what more trials gave, and where the time went."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.errors import ConfigError
from tvm_flow.quality.intervals import Interval
from tvm_flow.quality.report_charts import Series, line_chart, plain_table
from tvm_flow.quality.report_page import Section
from tvm_flow.tune.entries import DEFAULT, Entry, Key
from tvm_flow.tune.ledger import read_ledger
from tvm_flow.tune.run_files import RunFile, read_runs
from tvm_flow.tune.statistics import median, ratios
from tvm_flow.tune.verdicts import MODEL, Verdict, verdict

DRAWN = 6
"""Curves of a chart, one of each colour: the kernels with the most trials."""
_KERNELS = (
    *("kernel", "default / tuned", "default ms", "tuned ms", "calls", "all of them, ms before", "after", "trials"),
    "why it is not tuned",
)
_SPLIT = ("compile", "run", "import and search")


def tuning_sections(store: Path) -> list[Section]:
    """Of every target and method that ``store`` has records of; raises ConfigError when it has none."""
    grouped: dict[tuple[str, str], dict[Key, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in read_ledger(store).entries:
        if entry.key.method.startswith(MODEL):
            continue  # cycles of a model are no times
        grouped[entry.key.target, entry.key.method][entry.key].append(entry)
    if not grouped:
        raise ConfigError(f"{store}: expected measurements, got none; run tvm-flow tune first")
    runs = read_runs(store)
    calls = {workload: count for each in runs for workload, count in each.calls.items()}
    sections = []
    for (target, method), kernels in sorted(grouped.items()):
        threads = method.partition(" threads=")[2] or "?"
        where = f"{target}, {threads} thread{'' if threads == '1' else 's'}"
        sections.append(_kernels(where, list(kernels.values()), calls))
        if series := curves(list(kernels.values())):
            sections.append(_curves(where, series))
    return [*sections, *([_costs(runs)] if runs else [])]


@dataclass(frozen=True)
class _Kernel:
    """A kernel by all its records; ``default`` is ms of one of its ``calls``."""

    label: str
    calls: int
    default: float
    found: Verdict

    @property
    def tuned(self) -> float:
        """Milliseconds of a call as it is compiled."""
        return self.default / (self.found.best.ratio if self.found.tuned else 1.0)

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        won, times = self.found.tuned, (f"{self.default:.4f}", f"{self.tuned:.4f}")
        whole = (f"{self.default * self.calls:.2f}", f"{self.tuned * self.calls:.2f}")
        why = "" if won else self.found.why
        gain, counted = str(self.found.best) if won else "1", (str(self.calls), *whole, str(self.found.trials))
        return (self.label, gain, *times, *counted, why)


def _kernels(where: str, kernels: Sequence[Sequence[Entry]], calls: Mapping[str, int]) -> Section:
    """A row of each kernel, what takes the most time first, and a row of all."""
    known = [
        _Kernel(_label(entries), calls.get(entries[0].key.workload, 1), _default_ms(entries), verdict(entries))
        for entries in kernels
    ]
    known.sort(key=lambda each: -each.default * each.calls)
    before = sum(each.default * each.calls for each in known)
    after = sum(each.tuned * each.calls for each in known)
    whole = ("all", f"{before / after if after else 1:.3f}", "", "", "", f"{before:.2f}", f"{after:.2f}", "", "")
    words = (
        "Times of a call are medians; the tuned one is the default's by the ratio of pairs. A kernel is tuned, and its "
        "row marked, when the interval lies above 1 twice in a row; all others keep their default, for the reason in "
        "their row."
    )
    marked = {k: "reference" for k, each in enumerate(known) if each.found.tuned}
    table = plain_table(_KERNELS, [*(each.cells() for each in known), whole], marked)
    return Section(f"Kernels before and after, {where}", words, table)


def curves(kernels: Sequence[Sequence[Entry]]) -> list[Series]:
    """The best ratio so far of the `DRAWN` kernels with the most trials, after 1, 2, 4, ... trials and after all."""
    most = sorted(kernels, key=lambda entries: -len(_raced(entries)))[:DRAWN]
    return [Series(_label(entries), _best_after(_raced(entries))) for entries in most if _raced(entries)]


def _raced(entries: Sequence[Entry]) -> list[float]:
    """default / candidate of each trial in the order in which they were made; 0 for one that gave no time."""
    first: dict[str, float] = {}
    for entry in entries:
        if entry.candidate != DEFAULT:
            pairs = ratios(entry.baseline, entry.samples)
            first.setdefault(entry.candidate, median(pairs) if pairs else 0.0)
    return list(first.values())


def _best_after(found: Sequence[float]) -> tuple[tuple[float, Interval], ...]:
    counts = [2**k for k in range(len(found).bit_length()) if 2**k < len(found)]
    best = [(count, max(1.0, *found[:count])) for count in (*counts, len(found))]
    return tuple((float(count), Interval(ratio, ratio, ratio)) for count, ratio in best)


def _curves(where: str, series: Sequence[Series]) -> Section:
    words = (
        "The best candidate so far in its race, a few samples each, so that the luckiest of many equals lies a little "
        "above 1; what was confirmed is in the table."
    )
    up = "x the default's speed"
    chart = (
        f'<p class="unit">{html.escape(up)}</p><div class="wide">{line_chart(series, "trials of a kernel", up)}</div>'
    )
    return Section(f"Trials against speed, {where}", words, chart)


def _costs(runs: Sequence[RunFile]) -> Section:
    rows, bars = [], []
    for made in runs:
        rest = max(made.seconds - made.compile - made.run, 0.0)
        parts = (made.compile, made.run, rest)
        busy = f"{made.trials / made.seconds * 60:.1f}" if made.seconds else ""
        rows.append((made.target, str(made.trials), f"{made.seconds:.0f}", *(f"{part:.0f}" for part in parts), busy))
        bars.append(_bar(made, parts))
    heads = ("target", "trials", "seconds", *_SPLIT, "trials a minute")
    key = " ".join(f'<span class="p{k + 1}"></span> {name}' for k, name in enumerate(_SPLIT))
    content = f'<p class="key">{key}</p>{"".join(bars)}{plain_table(heads, rows)}'
    return Section("Where the time went", "Seconds of each run of tvm-flow tune.", content)


def _bar(made: RunFile, parts: Sequence[float]) -> str:
    whole = sum(parts) or 1.0
    pieces = "".join(
        f'<span class="p{k + 1}" style="width:{part / whole:.1%}" title="{name}: {part:.0f} s"></span>'
        for k, (name, part) in enumerate(zip(_SPLIT, parts, strict=True))
    )
    return f'<div class="split" role="img" aria-label="{html.escape(made.target)}">{pieces}</div>'


def _label(entries: Sequence[Entry]) -> str:
    label = next((entry.label for entry in entries if entry.label), entries[0].key.workload[:12])
    return label.replace(" and what follows", ", fused")


def _default_ms(entries: Sequence[Entry]) -> float:
    """Of a call, by all records of the kernel."""
    samples = [sample for entry in entries for sample in entry.baseline]
    return median(samples) * 1e3 if samples else 0.0
