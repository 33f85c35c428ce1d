"""Which linears of a model are quantized, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.model.config import ModelConfig

BRANCHES = ("cond", "uncond")
"""The two halves of classifier-free guidance, in the order of every axis named `branch`."""

_AFTER_SELF_ATTENTION = ("cross_attn.q_linear", "cross_attn.kv_linear", "cross_attn.proj", "mlp.fc1", "mlp.fc2")


@dataclass(frozen=True)
class Layout:
    """The blocks of one depth, and the quantized linears of a block, both in the order they run."""

    blocks: tuple[str, ...]
    kinds: tuple[str, ...]


LAYOUTS = {
    "STDiT": Layout(
        ("blocks.{}",), ("attn.qkv", "attn.proj", "attn_temp.qkv", "attn_temp.proj", *_AFTER_SELF_ATTENTION)
    ),
    "STDiT3": Layout(("spatial_blocks.{}", "temporal_blocks.{}"), ("attn.qkv", "attn.proj", *_AFTER_SELF_ATTENTION)),
}
"""By the config's model_type."""


def layer_kinds(config: ModelConfig) -> tuple[str, ...]:
    """The quantized linears of a block, 9 in an STDiT and 7 in an STDiT3, in the order they run."""
    return LAYOUTS[config.model_type].kinds


def block_names(config: ModelConfig) -> tuple[str, ...]:
    """The blocks in the order they run: spatial_blocks.0, temporal_blocks.0, and so on, or blocks.0, blocks.1."""
    return tuple(block.format(i) for i in range(config.depth) for block in LAYOUTS[config.model_type].blocks)


def layer_names(config: ModelConfig) -> tuple[str, ...]:
    """The quantized linears as module paths, in the order they run."""
    return tuple(f"{block}.{kind}" for block in block_names(config) for kind in layer_kinds(config))
