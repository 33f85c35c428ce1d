"""Prompt embeddings as a file, so that prompts can be encoded on another machine.

One safetensors file:

    tokens    float32, float16 or bfloat16 [N, L, D]   the text encoder's last hidden states, padded to L
    lengths   int64 or int32 [N]                       tokens of each prompt that are no padding, 1 to L
    metadata  captions: a JSON list of the N prompts, all different

L and D are those of the transformer: 120 tokens for Open-Sora v1.0, 300 for v1.2, 4096 channels. Rows after a prompt's
length are never attended to; `save_embeddings` writes zeros there. The demo's captions are a file of this format.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tvm_flow.artifact import atomic_path
from tvm_flow.documents import parse_json
from tvm_flow.errors import PromptError

FILE = "captions.safetensors"
"""Its name where a folder is given."""
SHOWN = 3


@dataclass(frozen=True, eq=False)
class PromptEmbeddings:
    """``tokens`` [N, L, D] and ``lengths`` [N] of ``prompts``, read from ``path``."""

    path: Path
    prompts: tuple[str, ...]
    tokens: Tensor
    lengths: Tensor

    def batch(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """(tokens float32 [B, L, D], mask bool [B, L]), as calibration and generation take them.

        Raises PromptError for a prompt that the file does not hold.
        """
        rows = [self._row(prompt) for prompt in prompts]
        mask = torch.arange(self.tokens.shape[1]) < self.lengths[rows][:, None]
        return self.tokens[rows].float(), mask

    def require_shape(self, length: int, channels: int) -> None:
        """Raise PromptError unless these are ``length`` tokens of ``channels``."""
        if tuple(self.tokens.shape[1:]) != (length, channels):
            raise PromptError(
                f"{self.path}: expected {length} tokens of {channels} channels for this model, got "
                f"{self.tokens.shape[1]} of {self.tokens.shape[2]}; encode the prompts for it (tvm-flow embed)"
            )

    def _row(self, prompt: str) -> int:
        if prompt not in self.prompts:
            known = ", ".join(map(repr, self.prompts[:SHOWN])) + (", ..." if len(self.prompts) > SHOWN else "")
            raise PromptError(
                f"prompt {prompt!r}: expected one of the {len(self.prompts)} in {self.path} ({known}); encode it too "
                "(tvm-flow embed)"
            )
        return self.prompts.index(prompt)


def save_embeddings(path: Path, prompts: Sequence[str], tokens: Tensor, lengths: Tensor) -> None:
    """Write ``tokens`` [N, L, D] and ``lengths`` [N] of ``prompts``, whole or not at all.

    Raises PromptError for what `load_embeddings` would refuse.
    """
    checked = _checked(path, list(prompts), tokens, lengths)
    real = torch.arange(tokens.shape[1]) < checked.lengths[:, None]
    kept = torch.where(real[:, :, None], tokens, torch.zeros((), dtype=tokens.dtype))
    with atomic_path(path) as temporary:
        save_file({"tokens": kept, "lengths": checked.lengths}, temporary, {"captions": json.dumps(list(prompts))})


def load_embeddings(path: Path) -> PromptEmbeddings:
    """Read a file of this format, or ``captions.safetensors`` of a folder.

    Raises PromptError naming what is absent, damaged or contradicts the format.
    """
    path = path / FILE if path.is_dir() else path
    try:
        with safe_open(path, framework="pt") as file:
            prompts = parse_json((file.metadata() or {})["captions"].encode())
            tokens, lengths = (file.get_tensor(name) for name in ("tokens", "lengths"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PromptError(
            f"{path}: expected prompt embeddings (safetensors with tokens, lengths and the metadata captions), got: "
            f"{error}; write them with tvm-flow embed"
        ) from error
    return _checked(path, prompts, tokens, lengths)


def _checked(path: Path, prompts: Any, tokens: Tensor, lengths: Tensor) -> PromptEmbeddings:
    def require(holds: bool, expected: str, got: object) -> None:
        if not holds:
            raise PromptError(f"{path}: expected {expected}, got {got}; encode the prompts again (tvm-flow embed)")

    texts = isinstance(prompts, list) and all(isinstance(p, str) for p in prompts)
    require(texts and len(prompts) > 0, "a list of prompts under captions", repr(prompts)[:80])
    require(len(set(prompts)) == len(prompts), "prompts that differ", f"{len(prompts) - len(set(prompts))} repeated")
    shape, kinds = tuple(tokens.shape), (torch.float32, torch.float16, torch.bfloat16)
    fits = len(shape) == 3 and shape[0] == len(prompts) and min(shape) > 0 and tokens.dtype in kinds
    require(fits, f"float tokens [{len(prompts)}, L, D]", f"{tokens.dtype} {list(shape)}")
    whole = tuple(lengths.shape) == shape[:1] and lengths.dtype in (torch.int64, torch.int32)
    require(whole, f"int64 lengths [{len(prompts)}]", f"{lengths.dtype} {list(lengths.shape)}")
    inside = bool(((lengths >= 1) & (lengths <= shape[1])).all())
    require(inside, f"lengths from 1 to {shape[1]}", f"{int(lengths.min())} to {int(lengths.max())}")
    real = torch.arange(shape[1]) < lengths[:, None]
    require(bool(tokens[real].isfinite().all()), "finite tokens", "NaN or infinity")
    return PromptEmbeddings(path, tuple(prompts), tokens, lengths.long())
