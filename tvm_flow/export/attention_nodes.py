"""Attention in a step graph: among places or frames, and to the caption."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tvm_flow.export.code_attention import code_attend
from tvm_flow.export.step import StepWriter

Prepare = Callable[[str, str], tuple[str, str]]
"""q and k, [T, heads, S, d] or [S, heads, T, d], to what is multiplied with each other."""

_HEADS_FIRST = {False: (0, 2, 1, 3), True: (1, 2, 0, 3)}
"""[T, S, heads, d] to [T, heads, S, d] within frames, to [S, heads, T, d] across them."""
_TOKENS_FIRST = {False: (0, 2, 1, 3), True: (2, 0, 1, 3)}


def self_attention(w: StepWriter, x: str, name: str, temporal: bool, prepare: Prepare) -> str:
    """Attention ``name`` (its qkv and proj) within frames, or across them at each place when ``temporal``.

    ``prepare`` scales q by 1 / sqrt(head_dim) and does what else a model does to q and k.
    """
    qkv = w.linear(x, f"{name}.qkv")
    q, k, v = (w.g.slice_last(qkv, i * w.hidden, (i + 1) * w.hidden) for i in range(3))
    q, k, v = (
        w.g.transpose(w.g.reshape(t, w.frames, w.places, w.heads, w.head_dim), *_HEADS_FIRST[temporal])
        for t in (q, k, v)
    )
    q, k = prepare(q, k)
    mixed = attend(w, name, (q, w.g.transpose(k, 0, 1, 3, 2), v))
    mixed = w.g.reshape(w.g.transpose(mixed, *_TOKENS_FIRST[temporal]), w.tokens, w.hidden)
    return w.linear(mixed, f"{name}.proj")


def cross_attention(w: StepWriter, x: str, y: str, name: str) -> str:
    """Attention ``name`` from the video's tokens x to the caption's tokens y."""
    k, v = caption_keys_values(w, y, name)
    q = scaled_query(w, w.linear(x, f"{name}.q_linear"))
    q = w.g.transpose(w.g.reshape(q, w.tokens, w.heads, w.head_dim), 1, 0, 2)
    mixed = w.g.transpose(attend(w, name, (q, k, v), "mask"), 1, 0, 2)
    return w.linear(w.g.reshape(mixed, w.tokens, w.hidden), f"{name}.proj")


def caption_keys_values(w: StepWriter, y: str, name: str) -> tuple[str, str]:
    """(k transposed [heads, d, L], v [heads, L, d]) of the caption tokens y [L, hidden]; no step enters them."""
    kv = w.linear(y, f"{name}.kv_linear")
    k, v = (w.g.slice_last(kv, i * w.hidden, (i + 1) * w.hidden) for i in range(2))
    k = w.g.transpose(w.g.reshape(k, w.caption, w.heads, w.head_dim), 1, 2, 0)
    return k, w.g.transpose(w.g.reshape(v, w.caption, w.heads, w.head_dim), 1, 0, 2)


def scaled_query(w: StepWriter, q: str) -> str:
    """q / sqrt(head_dim)."""
    return w.g.op("Mul", [q, w.g.shared("head_scale", np.array(w.head_dim**-0.5, np.float32))])


def attend(w: StepWriter, name: str, operands: tuple[str, str, str], mask: str | None = None) -> str:
    """softmax(q k^T + mask) v of q, k transposed and v, ``operands``; q is scaled already."""
    if w.model.recipe.attention == "int8":
        return code_attend(w, name, operands, mask)
    q, k_transposed, v = operands
    scores = w.g.op("MatMul", [q, k_transposed])
    if mask is not None:
        scores = w.g.op("Add", [scores, mask])
    return w.g.op("MatMul", [w.g.op("Softmax", [scores], axis=-1), v])
