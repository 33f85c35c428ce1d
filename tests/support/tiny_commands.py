"""What a person has before the first command: a checkpoint of STDiT that is small enough to compile in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from tvm_flow.model import STDiT, STDiTConfig

CONFIG = STDiTConfig(depth=1, hidden=32, heads=2, caption_channels=8, model_max_length=6, space_scale=0.5)
SAMPLER = {"name": "iddpm", "steps": 2, "cfg_scale": 2.0}
LATENT = "4,2,3,5"
PROMPT = "a lake at dawn"


def write_checkpoint(folder: Path, seed: int = 0) -> None:
    """As released: the position tables among the weights, and a config.json that names its model."""
    folder.mkdir()
    torch.manual_seed(seed)
    model = STDiT(CONFIG)
    tables = {"pos_embed": model.position_embedding(2, 2)[None], "pos_embed_temporal": model.time_embedding(2)[None]}
    save_file({**model.state_dict(), **tables}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))


def write_inputs(folder: Path, *more: str) -> None:
    """Into ``folder``: checkpoint, sampler.yaml, prompts.yaml with a prompt, captions.safetensors with ``more``."""
    write_checkpoint(folder / "checkpoint")
    (folder / "sampler.yaml").write_text(yaml.safe_dump(SAMPLER))
    (folder / "prompts.yaml").write_text(f"prompts: [{PROMPT}]\n")
    prompts = [PROMPT, *more]
    tokens = {"tokens": torch.randn(len(prompts), 6, 8), "lengths": torch.full((len(prompts),), 4)}
    save_file(tokens, folder / "captions.safetensors", {"captions": json.dumps(prompts)})
