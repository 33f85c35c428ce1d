"""Weights of metrics from local paths: bounded, whole, of the layout that a metric expects. Nothing is downloaded.

State dicts are read as checkpoints are (`tvm_flow.model.weights`), so nothing in them is executed. What a library reads
by itself (transformers) or runs (a TorchScript file) is said where that happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tvm_flow.artifact import sha256_file
from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.model.checkpoint import compare_keys, shapes_of
from tvm_flow.model.weights import read_tensors
from tvm_flow.opensora import extra

MOST_BYTES = 4 << 30
"""Of one file: the largest that these metrics are published with, CLIP's ViT-L, has 1.7 GB."""
EXTRA = "metrics"


def require(module: str) -> Any:
    """Import ``module`` of the extra ``metrics``; raises ConfigError saying how to install it."""
    try:
        return extra.require(module, EXTRA)
    except RuntimeError as error:
        raise ConfigError(
            f"{module}: expected one that was built for torch {torch.__version__}, got: {error}; install the build "
            "of it that belongs to that torch, from where that torch came"
        ) from error


def require_file(path: Path, what: str) -> Path:
    """``path``, a regular file of at most `MOST_BYTES` that should be ``what``; raises CheckpointError."""
    if not path.is_file():
        found = "nothing" if not path.exists() else "a folder" if path.is_dir() else "another kind of file"
        raise CheckpointError(f"{path}: expected {what}, got {found}; nothing is downloaded: fetch it, give its path")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise CheckpointError(f"{path}: expected {what}, got {size} bytes, of at most {MOST_BYTES}; give that file")
    return path


def read_state(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors by name of the file ``path``, which should be ``what``; raises CheckpointError."""
    return read_tensors(require_file(path, what))


def fill(module: nn.Module, state: dict[str, Tensor], path: Path, what: str) -> None:
    """Put ``state``, read from ``path``, into ``module``, in float32 and eval mode; raises CheckpointError.

    Every tensor of the module has to be there in its shape, and no other.
    """
    found = {key: tuple(value.shape) for key, value in state.items()}
    if wrong := str(compare_keys(found, shapes_of(module), left_out=())):
        raise CheckpointError(f"{path}: expected {what}, got: {wrong}; give the file of that model")
    module.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    module.eval().requires_grad_(False)


def files_of(path: Path) -> tuple[Path, ...]:
    """``path`` itself, or the files in the folder ``path``."""
    return tuple(sorted(file for file in path.iterdir() if file.is_file())) if path.is_dir() else (path,)


def files_sha256(files: Iterable[Path]) -> str:
    """Hex sha256 that stands for the names and the bytes of ``files``, wherever they lie."""
    named = sorted(f"{sha256_file(file)} {file.name}\n" for file in files)
    return hashlib.sha256("".join(named).encode()).hexdigest()
