"""Tiny models in the layouts of the released folders, saved by the real libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor

from tvm_flow.opensora.temporal import TemporalConfig, TemporalDecoder

CHANNELS = 16
PROMPTS = ("a red sneaker moving left", "a beautiful waterfall, drone view")
SPATIAL: dict[str, Any] = {
    **{"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (8, 16)},
    **{"layers_per_block": 1, "norm_num_groups": 4, "act_fn": "silu", "sample_size": 16},
    **{"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2},
}
TEMPORAL = TemporalConfig(filters=4, blocks=1, groups=2)


def write_t5(folder: Path, channels: int = CHANNELS) -> Path:
    """A T5 encoder of two layers with a sentencepiece model, as T5-v1.1-XXL is laid out."""
    from transformers import T5Config, T5EncoderModel

    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        **{"sentence_iterator": iter(PROMPTS * 5), "model_prefix": str(folder / "spiece"), "vocab_size": 60},
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "hard_vocab_limit": False, "minloglevel": 2},
    )
    (folder / "spiece.vocab").unlink()
    tokenizer = {"tokenizer_class": "T5Tokenizer", "extra_ids": 4, "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    torch.manual_seed(0)
    sizes = {"d_model": channels, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 80}
    T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")).save_pretrained(folder)
    return folder


def write_image_vae(folder: Path) -> Path:
    """An AutoencoderKL as diffusers saves it: the layout of sd-vae-ft-ema."""
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    AutoencoderKL(**SPATIAL).save_pretrained(folder)
    return folder


def video_state() -> dict[str, torch.Tensor]:
    """The keys of a tiny OpenSora-VAE-v1.2, with one that only encoding needs."""
    from diffusers import AutoencoderKL

    torch.manual_seed(2)
    parts = {"spatial_vae.module.": AutoencoderKL(**SPATIAL), "temporal_vae.": TemporalDecoder(TEMPORAL)}
    state = {prefix + key: v.clone() for prefix, part in parts.items() for key, v in part.state_dict().items()}
    state["temporal_vae.encoder.conv_in.conv.weight"] = torch.zeros(4, 4, 3, 3, 3)
    state["shift"] = torch.tensor([-0.1, 0.34, 0.27, 0.98]).reshape(1, 4, 1, 1, 1)
    state["scale"] = torch.tensor([3.85, 2.32, 2.33, 3.06]).reshape(1, 4, 1, 1, 1)
    return state


def write_video_vae(folder: Path, state: dict[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "VideoAutoencoderPipeline", **config}))
    save_file(state, folder / "model.safetensors")
    return folder


def write_shards(folder: Path, state: Mapping[str, Tensor]) -> None:
    """``state`` in a.safetensors and b.safetensors of ``folder``, with their index."""
    names = sorted(state)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: state[key] for key in keys}, folder / shard)
    weight_map = {key: shard for shard, keys in shards.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
