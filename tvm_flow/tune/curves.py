"""Trials against speed, from a store: what a search with fewer trials would have found, by `stored_samples.replay`.

The space is what was tried, so that the last point is what the store knows; measured and modelled records each have
curves of their own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.errors import ConfigError
from tvm_flow.tune.entries import DEFAULT, Entry, Key
from tvm_flow.tune.ledger import read_ledger
from tvm_flow.tune.search import Task
from tvm_flow.tune.stored_samples import curve
from tvm_flow.tune.verdicts import MODEL


@dataclass(frozen=True)
class Curve:
    """Of one kernel and way of measuring: (trials, default / what a search with so many would have found)."""

    label: str
    key: Key
    points: tuple[tuple[int, float], ...]

    def lines(self) -> list[str]:
        """For a person: a table."""
        how = "modelled" if self.key.method.startswith(MODEL) else "measured"
        head = f"{self.label} on {self.key.target.split()[-1]}, {how} ({self.key.method})"
        cells = [[str(count) for count, _ in self.points], [f"{ratio:.3f}" for _, ratio in self.points]]
        rows = zip(("trials", "default / best"), cells, strict=True)
        return [head, *(f"  {name:<14} " + " ".join(f"{cell:>6}" for cell in row) for name, row in rows)]


def curves_of(store: Path, workload: str) -> list[Curve]:
    """Of the kernels whose hash starts with ``workload``; raises ConfigError when nothing was tried of any."""
    grouped: dict[Key, list[Entry]] = defaultdict(list)
    for entry in read_ledger(store).entries:
        if entry.key.workload.startswith(workload):
            grouped[entry.key].append(entry)
    found = [_curve(key, entries) for key, entries in grouped.items() if any(each.samples for each in entries)]
    if not found:
        raise ConfigError(f"workload {workload!r}: expected one of `tvm-flow records list`, got none in {store}")
    return found


def _curve(key: Key, entries: list[Entry]) -> Curve:
    space = tuple(dict.fromkeys(entry.candidate for entry in entries if entry.candidate != DEFAULT))
    counts = [2**power for power in range(len(space).bit_length()) if 2**power < len(space)] + [len(space)]
    label = next((entry.label for entry in entries if entry.label), "kernel")
    return Curve(label, key, tuple(zip(counts, curve(Task(key, label, space), entries, counts), strict=True)))
