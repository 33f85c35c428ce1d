"""The order of output channels in a step graph, where it is not the model's.

Rope turns neighbouring pairs; in a graph the channels of every head of q and k are (even, odd), which leaves q k^T as
it is and turns the pair swap into a swap of halves.
"""

from __future__ import annotations

import numpy as np

from tvm_flow.model import AnyConfig


def channel_order(config: AnyConfig, name: str) -> np.ndarray | None:
    """Of the linear ``name``: that of a temporal qkv of an STDiT3, whose q and k get rope; None for all others."""
    if config.model_type != "STDiT3" or not (name.startswith("temporal_blocks.") and name.endswith(".attn.qkv")):
        return None
    channels = np.arange(3 * config.hidden).reshape(3, config.heads, config.head_dim)
    channels[:2] = channels[:2][:, :, pair_order(config.head_dim)]
    return channels.reshape(-1)


def pair_order(head_dim: int) -> np.ndarray:
    """Even channels of a head, then odd ones."""
    return np.concatenate([np.arange(0, head_dim, 2), np.arange(1, head_dim, 2)])
