"""Reading checkpoint files: a transformers-style folder, one .safetensors file, or a .pth."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tvm_flow.errors import CheckpointError

WRAPPERS = ("ema", "state_dict")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name; a .pth may have them under ema or state_dict. Raises CheckpointError."""
    files = safetensors_files(path)
    if files is None:
        return read_pth(path)
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise unreadable(file, error) from error
    return state


def safetensors_files(path: Path) -> list[Path] | None:
    """The safetensors files of a folder, or the file itself; None for a .pth.

    Raises CheckpointError when nothing is there or an index cannot be read.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path}: expected a checkpoint folder, or a .pth or .safetensors file, got nothing; check the path"
        )
    if not path.is_dir():
        return [path] if path.suffix == ".safetensors" else None
    index = path / INDEX
    if (path / SINGLE).exists() or not index.exists():
        return [path / SINGLE]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        # Only the last component: an index from elsewhere must not reach out of its folder.
        return [path / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: expected a weight_map of shards, got: {error!r}") from error


def unreadable(file: Path, error: Exception) -> CheckpointError:
    """What to say of safetensors that cannot be read."""
    return CheckpointError(f"{file}: expected readable safetensors, got: {error}; fetch it again")


def read_pth(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth, by name; raises CheckpointError. Nothing in the file is executed."""
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: expected a .pth of plain tensors, got: {error}; nothing in it was executed"
        ) from error
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: expected a mapping of names to tensors, got {type(loaded).__name__}")
    return dict(loaded)
