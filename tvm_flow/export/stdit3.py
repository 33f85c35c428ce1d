"""The blocks of an STDiT3: spatial and temporal ones in turn, both modulated, the temporal ones with rope."""

from __future__ import annotations

from tvm_flow.export.attention import cross_attention, self_attention
from tvm_flow.export.blocks import modulated_mlp
from tvm_flow.export.step import StepWriter


def stdit3_blocks(w: StepWriter, x: str, y: str) -> str:
    """All blocks of tokens x [T * S, hidden] and caption y [L, hidden]."""
    for index in range(w.model.config.depth):
        for kind in ("spatial", "temporal"):
            x = _block(w, x, y, f"{kind}_blocks.{index}", temporal=kind == "temporal")
    return x


def _block(w: StepWriter, x: str, y: str, name: str, temporal: bool) -> str:
    update = self_attention(w, w.modulated(x, f"{name}.msa"), f"{name}.attn", temporal)
    x = w.gated(x, update, f"{name}.msa_gate")
    x = w.g.op("Add", [x, cross_attention(w, x, y, f"{name}.cross_attn")])
    return modulated_mlp(w, x, name)
