"""calls.json of a bundle: what each call of each group is, for people. Nothing that runs a bundle reads it.

    {"schema": 1, "groups": {NAME: [{"name", "kind", "macs", "bytes", "instructions"}, ...]}}

The rows of a group stand in the order of its library's calls; `tvm_flow.plan.described` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tvm_flow.artifact import write_bytes
from tvm_flow.errors import BundleError
from tvm_flow.plan.described import DescribedCall, described
from tvm_flow.plan.group import GroupLibrary

CALLS = "calls.json"
SCHEMA = 1


def calls_file(libraries: Sequence[GroupLibrary], folder: Path) -> dict[str, Path]:
    """calls.json of ``libraries``, written into ``folder``, by its path in a bundle."""
    groups = {library.path.stem: [call.as_dict() for call in described(library.packed)] for library in libraries}
    text = json.dumps({"schema": SCHEMA, "groups": groups}, separators=(",", ":"))
    write_bytes(folder / CALLS, text.encode())
    return {CALLS: folder / CALLS}


def read_calls(bundle: Path) -> dict[str, tuple[DescribedCall, ...]]:
    """The rows of every group; empty for a bundle that was packed without. Raises BundleError for a damaged file."""
    path = bundle / CALLS
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']}")
        return {name: tuple(DescribedCall(**row) for row in rows) for name, rows in value["groups"].items()}
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path}: expected the calls of a bundle, got: {error!r}; compile it again") from error
