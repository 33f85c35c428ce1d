"""What STDiT and STDiT3 share around their attention: patches, caption, MLP, and the final layer.

Tokens are rows: x is [T * S, hidden], frames outside, the places of a frame inside.
"""

from __future__ import annotations

import numpy as np

from tvm_flow.export.step import StepWriter


def patch_tokens(w: StepWriter) -> str:
    """x_embedder as a product of flattened patches, plus positions: [T * S, hidden]."""
    g, (kt, kh, kw) = w.g, w.model.config.patch
    x = g.reshape(padded_latent(w), w.channels, w.frames, kt, w.height, kh, w.width, kw)
    x = g.reshape(g.transpose(x, 1, 3, 5, 0, 2, 4, 6), w.tokens, w.channels * kt * kh * kw)
    x = w.float_linear(x, "x_embedder.proj")
    positions = g.shared("position_embedding", w.model.tables["position_embedding"])
    x = g.op("Add", [g.reshape(x, w.frames, w.places, w.hidden), positions])
    return g.reshape(x, w.tokens, w.hidden)


def padded_latent(w: StepWriter) -> str:
    """z with zeros at its far ends, up to whole patches."""
    x, shape = "z", list(w.model.latent)
    for axis, extent in enumerate(w.padded):
        if extent > shape[axis]:
            zeros = np.zeros([*shape[:axis], extent - shape[axis], *shape[axis + 1 :]], np.float32)
            x = w.g.op("Concat", [x, w.g.shared(f"padding.{axis}", zeros)], axis=axis)
            shape[axis] = extent
    return x


def caption_tokens(w: StepWriter) -> str:
    """y_embedder: [L, hidden]."""
    y = w.g.op("Gelu", [w.float_linear("y", "y_embedder.y_proj.fc1")], approximate="tanh")
    return w.float_linear(y, "y_embedder.y_proj.fc2")


def modulated_mlp(w: StepWriter, x: str, name: str) -> str:
    """x + gate_mlp * fc2(GELU_tanh(fc1(modulated x)))."""
    wide = w.g.op("Gelu", [w.linear(w.modulated(x, f"{name}.mlp"), f"{name}.mlp.fc1")], approximate="tanh")
    return w.gated(x, w.linear(wide, f"{name}.mlp.fc2"), f"{name}.mlp_gate")


def final(w: StepWriter, x: str) -> str:
    """Modulate, project to those channels of every patch that the sampler needs, put patches together, cut padding."""
    g, (kt, kh, kw) = w.g, w.model.config.patch
    out, channels = w.model.config.out_channels, w.model.output_channels
    kept = np.arange(kt * kh * kw * out).reshape(-1, out)[:, :channels].reshape(-1)
    x = w.float_linear(w.modulated(x, "final", separator="."), "final_layer.linear", kept)
    x = g.reshape(x, w.frames, w.height, w.width, kt, kh, kw, channels)
    x = g.reshape(g.transpose(x, 6, 0, 3, 1, 4, 2, 5), channels, *w.padded[1:])
    return x if w.padded == w.model.latent else g.cut(x, (channels, *w.model.latent[1:]))
