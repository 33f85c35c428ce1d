"""A CLIP of one layer in the layout of openai/clip-vit-base-patch32, saved by transformers itself."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch

SIDE, LONGEST = 16, 12


def write_clip(folder: Path) -> Path:
    """Pictures of 16 pixels, words letter by letter, embeddings of 8."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters]
    text = {**sizes, "vocab_size": len(tokens), "max_position_embeddings": LONGEST, "bos_token_id": 0}
    vision = {**sizes, "image_size": SIDE, "patch_size": 8}
    config = CLIPConfig(text_config={**text, "eos_token_id": 1}, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": tokens[0], "eos_token": tokens[1], "unk_token": tokens[1], "pad_token": tokens[1]}
    words = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LONGEST, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    pictures = {
        **{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": SIDE}, "resample": 3},
        **{"crop_size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    return folder
