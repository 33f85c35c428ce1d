"""Loading STDiT3 weights: a transformers-style folder, or a .pth (plain, or under ema or state_dict).

1. Read names and tensors. 2. Drop position tables, which are recomputed. 3. Compare every name and shape with
the model. 4. Copy in fp32.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tvm_flow.errors import CheckpointError
from tvm_flow.model.config import STDiT3Config
from tvm_flow.model.stdit3 import STDiT3

WRAPPERS = ("ema", "state_dict")
SHOWN = 8  # keys of one kind that an error spells out before it counts the rest
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_checkpoint(path: Path, config: STDiT3Config | None = None) -> STDiT3:
    """Read ``path``, a folder (config.json + model.safetensors, or its shards) or a .pth, into an fp32 model.

    ``config`` is needed for a .pth and, for a folder, overrides its config.json. The model comes in eval
    mode, without gradients. Raises CheckpointError when something is unreadable or any key is missing, extra
    or misshapen, ConfigError when config.json asks for what is not implemented.
    """
    if config is None:
        config = read_config(path)
    state = read_state(path)
    with torch.device("meta"):
        model = STDiT3(config)
    check_keys(path, state, {key: tuple(value.shape) for key, value in model.state_dict().items()})
    # assign: the meta tensors have no storage to copy into, and an XL/2 need not be held twice.
    model.load_state_dict({key: value.to(torch.float32) for key, value in state.items()}, assign=True)
    return model.eval().requires_grad_(False)


def read_config(path: Path) -> STDiT3Config:
    """The config.json of a checkpoint folder; raises CheckpointError when there is none."""
    file = path / "config.json"
    try:
        return STDiT3Config.from_dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: expected a readable config.json, got: {error}; pass its folder, or give the config"
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name, position tables dropped; raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f"{path}: expected a checkpoint folder or a .pth file, got nothing; check the path")
    state = _read_folder(path) if path.is_dir() else _read_pth(path)
    return {key: value for key, value in state.items() if not key.startswith("pos_embed")}


def check_keys(path: Path, state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError naming each key that is missing, extra, or of another shape than ``expected``."""
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    problems = {
        "missing": sorted(expected.keys() - shapes.keys()),
        "extra": sorted(shapes.keys() - expected.keys()),
        "misshapen": [
            f"{key} (have {list(shapes[key])} but require {list(shape)})"
            for key, shape in sorted(expected.items())
            if key in shapes and shapes[key] != shape
        ],
    }
    found = [f"{len(keys)} {kind}: {_listing(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise CheckpointError(
            f"{path}: expected {len(expected)} keys, got {len(shapes)}; {'; '.join(found)}; "
            f"check that config and weights belong together"
        )


def _listing(keys: list[str]) -> str:
    rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + rest


def _read_folder(path: Path) -> dict[str, Tensor]:
    index = path / INDEX
    names = [SINGLE]
    if not (path / SINGLE).exists() and index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index}: expected a weight_map of shards, got: {error!r}") from error
    state: dict[str, Tensor] = {}
    for name in names:
        try:
            # Only the last component: an index from elsewhere must not reach out of its folder.
            state |= load_file(path / Path(name).name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path / name}: expected readable safetensors, got: {error}; fetch it again"
            ) from error
    return state


def _read_pth(path: Path) -> dict[str, Tensor]:
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
