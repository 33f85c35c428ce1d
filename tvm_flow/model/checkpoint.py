"""Loading STDiT and STDiT3 weights.

1. Read names and tensors (weights). 2. Find the config (recognise). 3. Drop position tables, which are
recomputed. 4. Compare every name and shape with the model, and the dropped tables with its own. 5. Copy in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor, nn

from tvm_flow.errors import CheckpointError
from tvm_flow.model.config import STDiT3Config, STDiTConfig
from tvm_flow.model.recognise import AnyConfig, Shapes, find_config, read_config
from tvm_flow.model.stdit import STDiT
from tvm_flow.model.stdit3 import STDiT3
from tvm_flow.model.weights import read_tensors

SHOWN = 8  # keys of one kind that an error spells out before it counts the rest
AnyModel = STDiT | STDiT3
RECOMPUTED = ("pos_embed", "pos_embed_temporal")
TABLE_ATOL = 1e-2  # bfloat16 rounds a sine by up to 4e-3


@overload
def load_checkpoint(path: Path, config: STDiTConfig) -> STDiT: ...
@overload
def load_checkpoint(path: Path, config: STDiT3Config) -> STDiT3: ...
@overload
def load_checkpoint(path: Path, config: Path | None = None) -> AnyModel: ...
def load_checkpoint(path: Path, config: AnyConfig | Path | None = None) -> AnyModel:
    """Read ``path``, a folder or a file in one of the layouts of `files`, into an fp32 model.

    ``config``, or the JSON file that holds it, is needed where no config.json lies in the folder, unless the model is
    a released one; where one lies there it goes first. The model comes in eval mode, without
    gradients. Raises CheckpointError when something is unreadable or any key is missing, extra or misshapen,
    ConfigError when config.json asks for what is not implemented.
    """
    state = read_tensors(path)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    if config is None:
        config = find_config(path, shapes)
    elif isinstance(config, Path):
        config = read_config(config, shapes)
    model = empty_model(config)
    check_keys(path, compare_keys(shapes, shapes_of(model)))
    check_positions(path, state, model)
    # assign: the meta tensors have no storage to copy into, and an XL/2 need not be held twice.
    weights = {key: value.to(torch.float32) for key, value in state.items() if key not in RECOMPUTED}
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def load_stdit3(path: Path) -> STDiT3:
    """``load_checkpoint`` for what works on STDiT3 only; raises CheckpointError for an STDiT."""
    model = load_checkpoint(path)
    if not isinstance(model, STDiT3):
        raise CheckpointError(f"{path}: expected an STDiT3 here, got an STDiT; pass a checkpoint of Open-Sora v1.2")
    return model


def empty_model(config: AnyConfig) -> AnyModel:
    """The model without storage, for its names and shapes."""
    with torch.device("meta"):
        return STDiT(config) if isinstance(config, STDiTConfig) else STDiT3(config)


@dataclass(frozen=True)
class KeyDifferences:
    """How a checkpoint's names and shapes differ from the model's; each list sorted."""

    expected: int
    got: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[str, ...]
    """As ``KEY (have [..] but require [..])``."""

    def __str__(self) -> str:
        lists = {"missing": self.missing, "extra": self.extra, "misshapen": self.misshapen}
        return "; ".join(f"{len(keys)} {kind}: {_listing(keys)}" for kind, keys in lists.items() if keys)


def shapes_of(model: nn.Module) -> Shapes:
    """The names and shapes of a model's state dict."""
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def compare_keys(shapes: Shapes, need: Shapes, left_out: Sequence[str] = RECOMPUTED) -> KeyDifferences:
    """Compare a checkpoint's ``shapes``, without those ``left_out``, with those that its model needs."""
    have = {key: shape for key, shape in shapes.items() if key not in left_out}
    return KeyDifferences(
        expected=len(need),
        got=len(have),
        missing=tuple(sorted(need.keys() - have.keys())),
        extra=tuple(sorted(have.keys() - need.keys())),
        misshapen=tuple(
            f"{key} (have {list(have[key])} but require {list(shape)})"
            for key, shape in sorted(need.items())
            if key in have and have[key] != shape
        ),
    )


def check_keys(path: Path, differences: KeyDifferences) -> None:
    """Raise CheckpointError naming each key that is missing, extra or misshapen."""
    if str(differences):
        raise CheckpointError(
            f"{path}: expected {differences.expected} keys, got {differences.got}; {differences}; "
            f"check that config and weights belong together"
        )


def check_positions(path: Path, state: Mapping[str, Tensor], model: AnyModel) -> None:
    """Raise CheckpointError when an STDiT's stored tables are not those that its config recomputes.

    A wrong space_scale has the right shapes and gives wrong videos; only these tables can tell. A table
    [1, S, C] of another than a square of places is passed over, because its rows and columns are unknown.
    """
    if not isinstance(model, STDiT):
        return
    for key, scale in zip(RECOMPUTED, ("space_scale", "time_scale"), strict=True):
        table = state.get(key)
        if table is None or table.ndim != 3:
            continue
        side = math.isqrt(table.shape[1])
        if key == "pos_embed" and side**2 != table.shape[1]:
            continue
        want = model.position_embedding(side, side) if key == "pos_embed" else model.time_embedding(table.shape[1])
        if table.shape[2:] != want.shape[1:] or not torch.allclose(table[0].float(), want, rtol=0, atol=TABLE_ATOL):
            raise CheckpointError(
                f"{path}: {key}: expected the positions of {scale} {getattr(model.config, scale)}, got others; "
                f"give the config with the {scale} that the checkpoint was trained with"
            )


def _listing(keys: tuple[str, ...]) -> str:
    rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + rest
