"""The blocks of an STDiT3: spatial and temporal ones in turn, q and k normalised, and rope on the temporal ones."""

from __future__ import annotations

import numpy as np

from tvm_flow.export.attention_nodes import cross_attention, self_attention
from tvm_flow.export.blocks import modulated_mlp
from tvm_flow.export.channels import pair_order
from tvm_flow.export.step import StepWriter
from tvm_flow.model.layers import NORM_EPS


def stdit3_blocks(w: StepWriter, x: str, y: str) -> str:
    """All blocks of tokens x [T * S, hidden] and caption y [L, hidden]."""
    for index in range(w.model.config.depth):
        for kind in ("spatial", "temporal"):
            x = _block(w, x, y, f"{kind}_blocks.{index}", temporal=kind == "temporal")
    return x


def _block(w: StepWriter, x: str, y: str, name: str, temporal: bool) -> str:
    attn = f"{name}.attn"

    def normalised(q: str, k: str) -> tuple[str, str]:
        q = head_norm(w, q, f"{attn}.q_norm", temporal, w.head_dim**-0.5)
        return q, head_norm(w, k, f"{attn}.k_norm", temporal, 1.0)

    update = self_attention(w, w.modulated(x, f"{name}.msa"), attn, temporal, normalised)
    x = w.gated(x, update, f"{name}.msa_gate")
    x = w.g.op("Add", [x, cross_attention(w, x, y, f"{name}.cross_attn")])
    return modulated_mlp(w, x, name)


def head_norm(w: StepWriter, x: str, name: str, temporal: bool, scale: float) -> str:
    """RMS norm over the head, times ``scale``; rope on temporal blocks, x [S, heads, T, head_dim] there."""
    g, half = w.g, w.head_dim // 2
    order = pair_order(w.head_dim) if temporal else np.arange(w.head_dim)
    gain = (w.model.params[f"{name}.weight"][order] * np.float32(scale)).astype(np.float32)
    mean = g.op("ReduceMean", [g.op("Mul", [x, x]), g.integers(-1)], keepdims=1)
    root = g.op("Sqrt", [g.op("Add", [mean, g.shared("rms_eps", np.array(NORM_EPS, np.float32))])])
    x = g.op("Mul", [g.op("Div", [x, root]), g.shared(f"{name}.weight", gain)])
    if not temporal:
        return x
    swapped = g.op("Concat", [g.slice_last(x, half, w.head_dim), g.slice_last(x, 0, half)], axis=-1)
    sign = np.repeat(np.array([-1.0, 1.0], np.float32), half)
    cos = g.shared("rope.cos", np.ascontiguousarray(w.model.tables["rope_cos"][:, order]))
    sin = g.shared("rope.sin", w.model.tables["rope_sin"][:, order] * sign)
    return g.op("Add", [g.op("Mul", [x, cos]), g.op("Mul", [swapped, sin])])
