"""Which linears of an STDiT3 are quantized, and what they are called."""

from __future__ import annotations

BRANCHES = ("cond", "uncond")
"""The two halves of classifier-free guidance, in the order of every axis named `branch`."""

KINDS = (
    "attn.qkv",
    "attn.proj",
    "cross_attn.q_linear",
    "cross_attn.kv_linear",
    "cross_attn.proj",
    "mlp.fc1",
    "mlp.fc2",
)
"""The seven quantized linears of a block, in the order they run."""


def block_names(depth: int) -> tuple[str, ...]:
    """The 2 * ``depth`` blocks in the order they run: spatial_blocks.0, temporal_blocks.0, and so on."""
    return tuple(f"{kind}_blocks.{i}" for i in range(depth) for kind in ("spatial", "temporal"))


def layer_names(depth: int) -> tuple[str, ...]:
    """The 14 * ``depth`` quantized linears as module paths, in the order they run."""
    return tuple(f"{block}.{kind}" for block in block_names(depth) for kind in KINDS)
