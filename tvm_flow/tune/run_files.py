"""What a tuning cost, beside the records that it made: one file of each run, for reports. Nothing is decided by them.

    run-<random>.json   {"target", "trials", "seconds", "compile", "run", "calls": {WORKLOAD: of the whole export}}

The rest of the seconds went into imports and the search.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tvm_flow.artifact import write_json


@dataclass(frozen=True)
class RunFile:
    """See the module."""

    target: str
    trials: int
    seconds: float
    compile: float
    run: float
    calls: Mapping[str, int]


def write_run(store: Path, made: RunFile) -> None:
    """Add the file of a run to ``store``; raises OSError."""
    write_json(store / f"run-{secrets.token_hex(4)}.json", asdict(made))


def read_runs(store: Path) -> list[RunFile]:
    """All of ``store``; a file that is none is left out."""
    found = []
    for path in sorted(store.glob("run-*.json")):
        try:
            made = RunFile(**json.loads(path.read_bytes()))
            numbers = (made.trials, made.seconds, made.compile, made.run, *made.calls.values())
            if all(type(number) in (int, float) and number >= 0 for number in numbers):
                found.append(made)
        except (ValueError, TypeError, AttributeError):
            continue
    return found
