"""An independent statement of the temporal decoder in float64 numpy: one loop per axis of a kernel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def causal_conv(x: Floats, weight: Floats, bias: Floats | None) -> Floats:
    """x [C, T, H, W]; out[o, t, h, w] = bias + sum w[o, c, i, j, k] x[c, t + i - (K - 1), h + j - K/2, w + k - K/2]."""
    _, frames, height, width = x.shape
    kernel = weight.shape[-1]
    side = kernel // 2
    padded = np.pad(x, ((0, 0), (kernel - 1, 0), (side, side), (side, side)))
    out = np.zeros((len(weight), frames, height, width))
    for i in range(kernel):
        for j in range(kernel):
            for k in range(kernel):
                part = padded[:, i : i + frames, j : j + height, k : k + width]
                out += np.einsum("oc,cthw->othw", weight[:, :, i, j, k], part)
    return out if bias is None else out + bias[:, None, None, None]


def group_norm(x: Floats, gain: Floats, shift: Floats, groups: int) -> Floats:
    parts = x.reshape(groups, -1)
    normal = (parts - parts.mean(1, keepdims=True)) / np.sqrt(parts.var(1, keepdims=True) + 1e-5)
    return normal.reshape(x.shape) * gain[:, None, None, None] + shift[:, None, None, None]


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def decode(state: Mapping[str, Floats], z: Floats, groups: int, blocks: int) -> Floats:
    """[C, T, H, W] -> [C, 4 T, H, W] under the key names of a checkpoint; levels 3 and 2 double time."""

    def conv(name: str, x: Floats) -> Floats:
        return causal_conv(x, state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias"))

    def norm(name: str, x: Floats) -> Floats:
        return group_norm(x, state[f"{name}.weight"], state[f"{name}.bias"], groups)

    def block(name: str, x: Floats) -> Floats:
        inner = conv(f"{name}.conv1", silu(norm(f"{name}.norm1", x)))
        inner = conv(f"{name}.conv2", silu(norm(f"{name}.norm2", inner)))
        return inner + (conv(f"{name}.conv3", x) if f"{name}.conv3.conv.weight" in state else x)

    x = conv("decoder.conv1", conv("post_quant_conv", z))
    for b in range(blocks):
        x = block(f"decoder.res_blocks.{b}", x)
    for level in (3, 2, 1, 0):
        for b in range(blocks):
            x = block(f"decoder.block_res_blocks.{level}.{b}", x)
        if level in (3, 2):
            wide = conv(f"decoder.conv_blocks.{level - 1}", x)
            x = np.stack([wide[0::2], wide[1::2]], axis=2).reshape(x.shape[0], -1, *x.shape[2:])
    return conv("decoder.conv_out", silu(norm("decoder.norm1", x)))
