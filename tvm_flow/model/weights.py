"""Reading the tensors of a checkpoint in any layout of `files`, out of what trainers wrap them in.

``read_tensors`` reads everything, ``read_entries`` only shapes and dtypes.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from tvm_flow.errors import CheckpointError
from tvm_flow.model.files import weight_files
from tvm_flow.model.unpickling import why_not_unpickled

WRAPPERS = ("ema", "state_dict", "model_state_dict", "model", "module")
"""Keys under which trainers save the state dict; the averaged weights first."""
PREFIXES = ("module.", "_orig_mod.")
Value = TypeVar("Value")

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

    Of safetensors only headers are read, and what torch.save wrote is mapped, so that no weight comes into memory; a
    file from before torch 1.6 cannot be mapped and is read whole.
    """
    entries: dict[str, Entry] = {}
    for file in weight_files(path):
        if file.suffix == ".safetensors":
            entries |= _header(file)
        else:
            tensors = read_pth(file, mmap=_is_zip(file))
            entries |= {key: Entry(tuple(value.shape), value.dtype) for key, value in tensors.items()}
    return without_prefixes(entries)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name, without wrappers' prefixes. Raises CheckpointError."""
    state: dict[str, Tensor] = {}
    for file in weight_files(path):
        if file.suffix == ".safetensors":
            try:
                state |= load_file(file)
            except (OSError, SafetensorError) as error:
                raise unreadable(file, error) from error
        else:
            state |= read_pth(file)
    return without_prefixes(state)


def without_prefixes(state: dict[str, Value]) -> dict[str, Value]:
    """``state`` under the model's own names: DataParallel and torch.compile put a prefix before every one."""
    while state and (prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _is_zip(file: Path) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:  # one that says of itself that it lies on several disks
        return True


def _header(file: Path) -> dict[str, Entry]:
    entries = {}
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - what safe_open gives is no mapping
                part = opened.get_slice(key)
                word = part.get_dtype()
                if word not in _DTYPES:
                    raise CheckpointError(
                        f"{file}: {key}: expected a dtype of {sorted(_DTYPES)}, got {word}; save it as one of them"
                    )
                entries[key] = Entry(tuple(part.get_shape()), _DTYPES[word])
    except (OSError, SafetensorError) as error:
        raise unreadable(file, error) from error
    return entries


def unreadable(file: Path, error: Exception) -> CheckpointError:
    """What to say of safetensors that cannot be read."""
    return CheckpointError(f"{file}: expected readable safetensors, got: {error}; fetch it again")


def read_pth(path: Path, mmap: bool = False) -> dict[str, Tensor]:
    """The tensors of a file of torch.save's, by name, out of whatever wraps them; raises CheckpointError.

    Nothing in the file is executed.
    """
    if why := why_not_unpickled(path, mmap):
        raise CheckpointError(f"{path}: expected a .pth of plain tensors, got: {why}; nothing in it was executed")
    loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    while isinstance(loaded, dict) and (inner := [key for key in WRAPPERS if isinstance(loaded.get(key), dict)]):
        loaded = loaded[inner[0]]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        found = type(loaded).__name__
        if isinstance(loaded, dict):
            others = [
                f"{key} ({type(value).__name__})" for key, value in loaded.items() if not isinstance(value, Tensor)
            ]
            found = f"a dict with {', '.join(others[:8])}{' and more' if len(others) > 8 else ''}"
        raise CheckpointError(
            f"{path}: expected a mapping of names to tensors, alone or under {', '.join(WRAPPERS)}, got {found}; "
            "save the state dict alone"
        )
    _require_own_bytes(path, loaded)
    return dict(loaded)


def _require_own_bytes(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raise CheckpointError for a name that is no text, and for a tensor that is more than the file holds.

    A forged one of a few bytes may repeat them without bound, or be of a kind whose numbers lie nowhere.
    """
    most = path.stat().st_size
    for key, value in tensors.items():
        plain = isinstance(key, str) and value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.is_quantized or value.numel() * value.element_size() > most:
            raise CheckpointError(
                f"{path}: {key!r:.80}: expected a name and a plain tensor of the file's own {most} bytes, got "
                f"{list(value.shape)} {value.layout} on {value.device.type}; save the state dict alone, without views"
            )
