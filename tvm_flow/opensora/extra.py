"""Optional extras, and the folders that their libraries read."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tvm_flow.artifact import read_json
from tvm_flow.errors import CheckpointError, ConfigError


def require(module: str, extra: str = "opensora") -> Any:
    """Import ``module`` of ``extra``; raises ConfigError saying how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module}: expected the optional extra {extra!r}, got: {error}; pip install 'tvm-flow[{extra}]'"
        ) from error


def folder_config(folder: Path, what: str) -> dict[str, Any]:
    """The config.json of the local folder ``folder``, which should hold ``what``.

    A name that is no folder is never taken for one on a hub. Raises CheckpointError when there is no such folder or
    no readable config.json in it.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise CheckpointError(
            f"{folder}: expected a local folder with {what}, got {found}; nothing is downloaded: fetch it on another "
            "machine and give its path"
        )
    try:
        config = read_json(folder / "config.json")
    except ConfigError as error:
        raise CheckpointError(f"{folder}: expected {what}, got a folder without a config.json: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{folder / 'config.json'}: expected a mapping, got {type(config).__name__}; fetch {what} again"
        )
    return config


def require_vocabulary(folder: Path, names: Sequence[str]) -> None:
    """Raise CheckpointError without a file of ``names``: transformers makes up a tokenizer where it finds none."""
    if not any((folder / name).is_file() for name in names):
        raise CheckpointError(
            f"{folder}: expected the tokenizer's vocabulary ({' or '.join(names)}), got none; fetch it too"
        )


def require_complete(folder: Path, found: dict[str, Any]) -> None:
    """Raise CheckpointError when a library would have made up weights; ``found`` is its ``loading_info``."""
    missing = sorted(found.get("missing_keys") or ())
    misshapen = sorted(_in_words(entry) for entry in found.get("mismatched_keys") or ())
    if missing or misshapen:
        shown = ", ".join((missing + misshapen)[:8])
        advice = "give the weights that belong to its config.json" if misshapen else "fetch it again"
        raise CheckpointError(
            f"{folder}: expected every weight of the model, got {len(missing)} missing and {len(misshapen)} of another "
            f"shape: {shown}; {advice}"
        )


def _in_words(entry: str | tuple[str, Sequence[int], Sequence[int]]) -> str:
    """A name with the shape that a file has and the one that the model takes, as libraries report them."""
    if isinstance(entry, str):
        return entry
    name, got, expected = entry
    return f"{name} (have {list(got)} but require {list(expected)})"
