"""Folders that come with the package: targets, prompt sets and recipes."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def shipped_folder(name: str) -> Path:
    """``name`` of the checkout that this code runs from, or where an installed package keeps it."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / name
    return Path(sysconfig.get_path("data")) / "share" / "tvm-flow" / name
