"""The blocks of an STDiT: spatial, temporal and cross-attention, then the MLP.

Only spatial attention and the MLP are modulated; temporal and cross-attention read the raw residual. Frames are told
apart by an embedding added to what block 0's temporal attention reads, and not to the residual.
"""

from __future__ import annotations

from tvm_flow.export.attention_nodes import cross_attention, scaled_query, self_attention
from tvm_flow.export.blocks import modulated_mlp
from tvm_flow.export.step import StepWriter


def stdit_blocks(w: StepWriter, x: str, y: str) -> str:
    """All blocks of tokens x [T * S, hidden] and caption y [L, hidden]."""
    for index in range(w.model.config.depth):
        x = _block(w, x, y, index)
    return x


def _block(w: StepWriter, x: str, y: str, index: int) -> str:
    name = f"blocks.{index}"

    def plain(q: str, k: str) -> tuple[str, str]:
        return scaled_query(w, q), k

    update = self_attention(w, w.modulated(x, f"{name}.msa"), f"{name}.attn", False, plain)
    x = w.gated(x, update, f"{name}.msa_gate")
    read = with_times(w, x) if index == 0 else x
    # The same gate as above: released weights were trained so.
    x = w.gated(x, self_attention(w, read, f"{name}.attn_temp", True, plain), f"{name}.msa_gate")
    x = w.g.op("Add", [x, cross_attention(w, x, y, f"{name}.cross_attn")])
    return modulated_mlp(w, x, name)


def with_times(w: StepWriter, x: str) -> str:
    """x [T * S, hidden] plus the embedding of its frame."""
    times = w.g.shared("time_embedding", w.model.tables["time_embedding"][:, None])
    x = w.g.op("Add", [w.g.reshape(x, w.frames, w.places, w.hidden), times])
    return w.g.reshape(x, w.tokens, w.hidden)
