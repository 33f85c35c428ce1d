"""Manifests as an attacker would leave them: changed, with a digest that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvm_flow.pack.manifest import sealed


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Do ``change`` to the values of ``bundle``'s manifest in place."""
    path = bundle / "manifest.json"
    values = json.loads(path.read_text())
    del values["sha256"]
    change(values)
    path.write_bytes(sealed(values))
