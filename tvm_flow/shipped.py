"""Folders that come with the package: targets, prompt sets and recipes; and where commands write unless told."""

from __future__ import annotations

import sysconfig
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent


def is_checkout() -> bool:
    """Whether this code runs from its repository, not from an installed package."""
    return (_CHECKOUT / "pyproject.toml").is_file()


def shipped_folder(name: str) -> Path:
    """``name`` of the checkout that this code runs from, or where an installed package keeps it."""
    if is_checkout():
        return _CHECKOUT / name
    return Path(sysconfig.get_path("data")) / "share" / "tvm-flow" / name


def output_folder() -> Path:
    """Where commands write, in the folder that they are run in: artifacts/demo, or tvm-flow-demo of a package."""
    return Path("artifacts/demo") if is_checkout() else Path("tvm-flow-demo")
