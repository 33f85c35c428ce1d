"""What the ``records`` command does with a store of measurements; nothing here changes a line that was written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.artifact import exclusive, write_bytes
from tvm_flow.errors import ConfigError
from tvm_flow.scratch import sweep
from tvm_flow.tune.entries import DEFAULT, Entry, Key, Kind
from tvm_flow.tune.ledger import SUFFIX, Found, append_all, encode, in_use, read_ledger
from tvm_flow.tune.statistics import median, spread
from tvm_flow.tune.verdicts import Verdict, judge, verdict, verdicts

MOST_SHOWN = 5
"""Skipped lines that an error names."""


@dataclass(frozen=True)
class Pruned:
    """How many records stayed and went, and files that a living writer holds, which were left."""

    kept: int
    removed: int
    in_use: tuple[Path, ...]


def list_records(store: Path) -> list[str]:
    """A line for every kernel and way of measuring: what won, or why nothing did; then what does not count."""
    found = read_ledger(store)
    lines = [_line(key, won, _label(found, key)) for key, won in sorted(verdicts(found.entries).items(), key=_order)]
    return lines + [f"skipped: {each}" for each in found.skipped]


def show_records(store: Path, workload: str) -> list[str]:
    """Every record of the kernels whose hash starts with ``workload``; raises ConfigError when there is none."""
    grouped: dict[Key, list[Entry]] = defaultdict(list)
    for entry in read_ledger(store).entries:
        if entry.key.workload.startswith(workload):
            grouped[entry.key].append(entry)
    if not grouped:
        raise ConfigError(f"workload {workload!r}: expected one of `tvm-flow records list`, got none in {store}")
    lines: list[str] = []
    for key, entries in grouped.items():
        lines += [
            _line(key, verdict(entries), entries[0].label),
            f"  {key.target}; {key.features}",
            f"  {key.compilers}",
        ]
        lines += [f"  {_entry_line(entry)}" for entry in entries]
    return lines


def verify_records(*places: Path) -> Found:
    """All that ``places`` hold; raises ConfigError naming the lines that do not count."""
    for place in places:
        if not place.exists():
            raise ConfigError(f"{place}: expected a folder or file of records, got nothing; check the path")
    found = read_ledger(*places)
    if found.skipped:
        shown = "; ".join(map(str, found.skipped[:MOST_SHOWN]))
        raise ConfigError(
            f"records: expected every line to count, got {len(found.skipped)} that do not: {shown}; they are harmless, "
            "prune removes them"
        )
    return found


def merge_records(store: Path, sources: Sequence[Path]) -> int:
    """Append what ``sources`` hold and ``store`` does not; returns the number of records.

    Raises ConfigError for a source that is not there, or where another process merges or prunes.
    """
    for source in sources:
        if not source.exists():
            raise ConfigError(f"{source}: expected a folder or file of records, got nothing; check the path")
    with exclusive(store):
        sweep(store)
        known = {encode(entry) for entry in read_ledger(store).entries}
        new = [entry for entry in read_ledger(*sources).entries if encode(entry) not in known]
        if new:
            append_all(store, new)
        return len(new)


def export_records(store: Path, output: Path) -> int:
    """Write the records that won, and nothing else, as one file to ship; returns their number.

    Raises ConfigError when there is none.
    """
    won = [
        each.entry for each in verdicts(read_ledger(store).entries).values() if each.tuned and each.entry is not None
    ]
    if not won:
        raise ConfigError(f"{store}: expected a record that won, got none; tune first, or look at `records list`")
    with exclusive(output):
        write_bytes(output, b"".join(sorted(map(encode, won))))
    return len(won)


def prune_records(store: Path, keep: Callable[[Entry], bool]) -> Pruned:
    """Write what ``keep`` wants as one new file, then remove the old ones, except those that a living writer holds.

    Raises ConfigError where another process merges or prunes.
    """
    if not store.is_dir():
        return Pruned(0, 0, ())
    with exclusive(store):
        sweep(store)
        files = sorted(store.glob(f"[!.]*{SUFFIX}"))
        held = tuple(path for path in files if in_use(path))
        old = [path for path in files if path not in held]
        found = read_ledger(*old)
        kept = [entry for entry in found.entries if keep(entry)]
        if kept:
            append_all(store, kept)
        for path in old:
            path.unlink()
        return Pruned(len(kept), len(found.entries) - len(kept) + len(found.skipped), held)


def _order(pair: tuple[Key, Verdict]) -> tuple[str, ...]:
    key, _ = pair
    return (key.target, key.workload, key.method)


def _label(found: Found, key: Key) -> str:
    return next((entry.label for entry in found.entries if entry.key == key and entry.label), "kernel")


def _line(key: Key, won: Verdict, label: str) -> str:
    what = f"tuned, {won.candidate}, {won.why}" if won.tuned else f"default, {won.why}"
    return f"{key.workload[:12]} {label} on {key.target.split()[-1]} ({key.method}), {won.trials} trials: {what}"


def _entry_line(entry: Entry) -> str:
    name = entry.candidate or "the default"
    if entry.kind is Kind.FAILED:
        return f"failed: {name}: {entry.cause}"
    if entry.kind is Kind.MODELLED:
        found, why = judge(entry)
        said = f"modelled: {name}: {entry.samples[0]:.0f} cycles, default / candidate {found.ratio:.3f}"
        return f"{said}{f'; {why}' if why else ''}"
    times = f"{median(entry.samples) * 1e3:.4g} ms, spread {spread(entry.samples):.1%}, {len(entry.samples)} samples"
    if entry.kind is Kind.FINAL:
        found, why = judge(entry)
        return f"final: {name}: {times}, default / candidate {found}{f'; {why}' if why else ''}"
    beside = f", default beside it {median(entry.baseline) * 1e3:.4g} ms" if entry.candidate != DEFAULT else ""
    return f"trial: {name}: {times}{beside}"
