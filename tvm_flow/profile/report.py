"""A profile as a table, as JSON, and as a trace that Perfetto and chrome://tracing open.

Behind the table stands what all calls moved, and the fewest bytes that the same kernels could have moved:

    least = every constant read once + every activation written once and read once, save what is only moved

so that whatever reads a tensor a second time, or copies it into another order, is above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm_flow.profile.measure import TimedCall
from tvm_flow.profile.roofline import Bound, Peaks, bound

CPU = "cpu"
_HEAD = ("kind", "layer", "calls", "total ms", "share", "fastest ms", "GMAC", "MB", "GMAC/s", "of peak", "bound by")


@dataclass(frozen=True)
class Row:
    """Calls of one kind in one layer of all blocks: ``*`` stands for a block's number."""

    kind: str
    layer: str
    calls: int
    total_ns: int
    fastest_ns: int
    macs: int
    bytes: int
    bound: Bound | None
    moved: int
    least: int


def rows_of(calls: Sequence[TimedCall], peaks: Peaks, threads: int) -> list[Row]:
    """One row for each kind and layer, the kinds and the layers of each by their time, the longest first.

    ``macs`` and ``bytes`` are one call's, the largest; the bound is that of the fastest call, where the CPU ran it;
    ``moved`` and ``least`` are of all calls.
    """
    groups: dict[tuple[str, str], list[TimedCall]] = {}
    for call in calls:
        groups.setdefault((call.what.kind, re.sub(r"(?<=\.)\d+(?=\.|$)", "*", call.what.name)), []).append(call)
    rows = [_row(kind, layer, group, peaks, threads) for (kind, layer), group in groups.items()]
    of_kind = {kind: sum(row.total_ns for row in rows if row.kind == kind) for kind in {row.kind for row in rows}}
    return sorted(rows, key=lambda row: (-of_kind[row.kind], row.kind, -row.total_ns))


def _row(kind: str, layer: str, group: Sequence[TimedCall], peaks: Peaks, threads: int) -> Row:
    best = min(group, key=lambda call: call.nanoseconds)
    work = best.what
    seconds = best.nanoseconds * 1e-9 * threads
    found = bound(work.macs, work.bytes, seconds, peaks, work.instructions) if best.device == CPU else None
    total = sum(call.nanoseconds for call in group)
    most = max(call.what.macs for call in group), max(call.what.bytes for call in group)
    moved = sum(call.what.bytes for call in group), sum(call.what.least for call in group)
    return Row(kind, layer, len(group), total, best.nanoseconds, *most, found, *moved)


def traffic(rows: Iterable[Row]) -> str:
    """The line of bytes for a person; what is least only where the bundle says it."""
    moved, least = sums_of_bytes(rows)
    times = f", {moved / least:.2f} times the least, {least / 1e6:.1f} MB" if least else ""
    return f"moved {moved / 1e6:.1f} MB{times}"


def sums_of_bytes(rows: Iterable[Row]) -> tuple[int, int]:
    """Of all calls: those moved, and the least; see the module."""
    pairs = [(row.moved, row.least) for row in rows]
    return sum(moved for moved, _ in pairs), sum(least for _, least in pairs)


def table(rows: Sequence[Row]) -> str:
    """Lines for a person, a line for each kind before its layers."""
    whole = max(sum(row.total_ns for row in rows), 1)
    lines: list[tuple[str, ...]] = [_HEAD]
    for kind in dict.fromkeys(row.kind for row in rows):
        members = [row for row in rows if row.kind == kind]
        calls, total = sum(row.calls for row in members), sum(row.total_ns for row in members)
        lines.append((kind, "", str(calls), _ms(total), f"{total / whole:.1%}", *("",) * 6))
        lines += [_cells(row, whole) for row in members]
    lines.append(("all", "", str(sum(row.calls for row in rows)), _ms(whole), "100.0%", *("",) * 6))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right."""
    padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths, strict=False)]
    return "  ".join([*words, *padded[2:]]).rstrip()


def _cells(row: Row, whole: int) -> tuple[str, ...]:
    work = (f"{row.macs / 1e9:.3f}", f"{row.bytes / 1e6:.1f}", f"{row.macs / max(row.fastest_ns, 1):.1f}")
    reached = (f"{row.bound.share:.0%}", row.bound.by) if row.bound else ("", "")
    share = f"{row.total_ns / whole:.1%}"
    return ("", row.layer, str(row.calls), _ms(row.total_ns), share, _ms(row.fastest_ns), *work, *reached)


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.2f}"


def clocks_of(calls: Iterable[TimedCall]) -> dict[str, str]:
    """By device, whose clock its calls were timed by: "host", or "device" for its own."""
    return {call.device: "device" if call.own_clock else "host" for call in calls}


def clock_lines(clocks: Mapping[str, str]) -> str:
    """A line for each device but the CPU, each begun by a line's end."""
    said = {"device": "by its own clock", "host": "by the host's clock, what it takes to hand calls over with it"}
    return "".join(f"\n{device}: times {said[clock]}" for device, clock in clocks.items() if device != CPU)


def as_json(rows: Sequence[Row], threads: int, clocks: Mapping[str, str]) -> dict[str, Any]:
    """Times in nanoseconds; ``share`` is of what binds, on all threads."""
    moved, least = sums_of_bytes(rows)
    return {
        "threads": threads,
        "clocks": dict(clocks),
        "moved_bytes": moved,
        "least_bytes": least,
        "rows": [
            {
                **{"kind": row.kind, "layer": row.layer, "calls": row.calls, "total_ns": row.total_ns},
                **{"fastest_ns": row.fastest_ns, "macs": row.macs, "bytes": row.bytes},
                **{"moved_bytes": row.moved, "least_bytes": row.least},
                **{"bound": row.bound.by if row.bound else None, "share": row.bound.share if row.bound else None},
            }
            for row in rows
        ],
    }


def chrome_trace(calls: Sequence[TimedCall]) -> dict[str, Any]:
    """Complete events in microseconds, a process for each device and a track for each branch."""
    first = min((call.start for call in calls), default=0)
    devices = list(dict.fromkeys(call.device for call in calls))
    names = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": device}}
        for pid, device in enumerate(devices)
    ]
    events = [
        {
            **{"ph": "X", "name": call.what.name, "cat": call.what.kind, "ts": (call.start - first) / 1e3},
            **{"dur": call.nanoseconds / 1e3, "pid": devices.index(call.device), "tid": call.branch},
            "args": {"kernel": call.kernel, "step": call.step, "macs": call.what.macs, "bytes": call.what.bytes},
        }
        for call in calls
    ]
    return {"traceEvents": [*names, *events], "displayTimeUnit": "ms"}
