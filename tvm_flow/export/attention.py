"""Attention in a step graph: among places or frames, and to the caption.

Rope turns neighbouring pairs; here the channels of every head of q and k are reordered to (even, odd), which leaves
q k^T as it is and turns the pair swap into a swap of halves.
"""

from __future__ import annotations

import numpy as np

from tvm_flow.export.step import StepWriter
from tvm_flow.model.layers import NORM_EPS

_HEADS_FIRST = {False: (0, 2, 1, 3), True: (1, 2, 0, 3)}
"""[T, S, heads, d] to [T, heads, S, d] within frames, to [S, heads, T, d] across them."""
_TOKENS_FIRST = {False: (0, 2, 1, 3), True: (2, 0, 1, 3)}


def self_attention(w: StepWriter, x: str, name: str, temporal: bool) -> str:
    """Attention ``name`` (its qkv and proj) within frames, or across them at each place, q and k normalised."""
    qkv = w.linear(x, f"{name}.qkv", rope_order(w) if temporal else None)
    q, k, v = (w.g.slice_last(qkv, i * w.hidden, (i + 1) * w.hidden) for i in range(3))
    q, k, v = (
        w.g.transpose(w.g.reshape(t, w.frames, w.places, w.heads, w.head_dim), *_HEADS_FIRST[temporal])
        for t in (q, k, v)
    )
    q = head_norm(w, q, f"{name}.q_norm", temporal, w.head_dim**-0.5)
    k = head_norm(w, k, f"{name}.k_norm", temporal, 1.0)
    mixed = attend(w, q, w.g.transpose(k, 0, 1, 3, 2), v)
    mixed = w.g.reshape(w.g.transpose(mixed, *_TOKENS_FIRST[temporal]), w.tokens, w.hidden)
    return w.linear(mixed, f"{name}.proj")


def cross_attention(w: StepWriter, x: str, y: str, name: str) -> str:
    """Attention ``name`` from the video's tokens x to the caption's tokens y."""
    k, v = caption_keys_values(w, y, name)
    q = w.linear(x, f"{name}.q_linear")
    q = w.g.op("Mul", [q, w.g.shared("head_scale", np.array(w.head_dim**-0.5, np.float32))])
    q = w.g.transpose(w.g.reshape(q, w.tokens, w.heads, w.head_dim), 1, 0, 2)
    mixed = w.g.transpose(attend(w, q, k, v, "mask"), 1, 0, 2)
    return w.linear(w.g.reshape(mixed, w.tokens, w.hidden), f"{name}.proj")


def caption_keys_values(w: StepWriter, y: str, name: str) -> tuple[str, str]:
    """(k transposed [heads, d, L], v [heads, L, d]) of the caption tokens y [L, hidden]; no step enters them."""
    kv = w.linear(y, f"{name}.kv_linear")
    k, v = (w.g.slice_last(kv, i * w.hidden, (i + 1) * w.hidden) for i in range(2))
    k = w.g.transpose(w.g.reshape(k, w.caption, w.heads, w.head_dim), 1, 2, 0)
    return k, w.g.transpose(w.g.reshape(v, w.caption, w.heads, w.head_dim), 1, 0, 2)


def attend(w: StepWriter, q: str, k_transposed: str, v: str, mask: str | None = None) -> str:
    """softmax(q k^T + mask) v; q is scaled already."""
    scores = w.g.op("MatMul", [q, k_transposed])
    if mask is not None:
        scores = w.g.op("Add", [scores, mask])
    return w.g.op("MatMul", [w.g.op("Softmax", [scores], axis=-1), v])


def head_norm(w: StepWriter, x: str, name: str, temporal: bool, scale: float) -> str:
    """RMS norm over the head, times ``scale``; rope on temporal blocks, x [S, heads, T, head_dim] there."""
    g, half = w.g, w.head_dim // 2
    order = pair_order(w) if temporal else np.arange(w.head_dim)
    gain = (w.model.params[f"{name}.weight"][order] * np.float32(scale)).astype(np.float32)
    mean = g.op("ReduceMean", [g.op("Mul", [x, x]), g.integers(-1)], keepdims=1)
    root = g.op("Sqrt", [g.op("Add", [mean, g.shared("rms_eps", np.array(NORM_EPS, np.float32))])])
    x = g.op("Mul", [g.op("Div", [x, root]), g.shared(f"{name}.weight", gain)])
    if not temporal:
        return x
    swapped = g.op("Concat", [g.slice_last(x, half, w.head_dim), g.slice_last(x, 0, half)], axis=-1)
    sign = np.repeat(np.array([-1.0, 1.0], np.float32), half)
    cos = g.shared("rope.cos", np.ascontiguousarray(w.model.rope_cos[:, order]))
    sin = g.shared("rope.sin", w.model.rope_sin[:, order] * sign)
    return g.op("Add", [g.op("Mul", [x, cos]), g.op("Mul", [swapped, sin])])


def pair_order(w: StepWriter) -> np.ndarray:
    """Even channels of a head, then odd ones."""
    return np.concatenate([np.arange(0, w.head_dim, 2), np.arange(1, w.head_dim, 2)])


def rope_order(w: StepWriter) -> np.ndarray:
    """Output channels of qkv with the heads of q and k in `pair_order`."""
    channels = np.arange(3 * w.hidden).reshape(3, w.heads, w.head_dim)
    channels[:2] = channels[:2][:, :, pair_order(w)]
    return channels.reshape(-1)
