"""Reading checkpoint files: a transformers-style folder, one .safetensors file, or a .pth.

``read_tensors`` reads everything, ``read_entries`` only shapes and dtypes.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from tvm_flow.errors import CheckpointError

WRAPPERS = ("ema", "state_dict")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# A safetensors header's word for a dtype -> torch's.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Entry:
    """What a file says of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def count(self) -> int:
        """Its elements."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.count * self.dtype.itemsize


def read_entries(path: Path) -> dict[str, Entry]:
    """Every tensor's shape and dtype by name; raises CheckpointError.

    Of safetensors only headers are read, and a .pth is mapped, so that no weight comes into memory; a .pth from
    before torch 1.6 cannot be mapped and is read whole.
    """
    files = safetensors_files(path)
    if files is None:
        tensors = read_pth(path, mmap=zipfile.is_zipfile(path))
        return {key: Entry(tuple(value.shape), value.dtype) for key, value in tensors.items()}
    entries: dict[str, Entry] = {}
    for file in files:
        try:
            entries |= _header(file)
        except (OSError, SafetensorError) as error:
            raise unreadable(file, error) from error
    return entries


def _header(file: Path) -> dict[str, Entry]:
    entries = {}
    with safe_open(file, framework="pt") as opened:
        for key in opened.keys():  # noqa: SIM118 - what safe_open gives is no mapping
            part = opened.get_slice(key)
            word = part.get_dtype()
            if word not in _DTYPES:
                raise CheckpointError(
                    f"{file}: {key}: expected a dtype of {sorted(_DTYPES)}, got {word}; save it as one of them"
                )
            entries[key] = Entry(tuple(part.get_shape()), _DTYPES[word])
    return entries


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


def read_pth(path: Path, mmap: bool = False) -> dict[str, Tensor]:
    """The tensors of a .pth, by name; raises CheckpointError. Nothing in the file is executed."""
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
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
