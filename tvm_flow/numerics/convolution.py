"""Convolution and padding of images, on values and bounds.

    out[n, o, h, w] = sum over c, i, j of x[n, c, h + i, w + j] weight[o, c, i, j]

is a matrix product of depth C K_h K_w, so the bound is that of `bounded.matmul`. Zeros around an image add no error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_flow.errors import BitExactError
from tvm_flow.numerics import bounded
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.rounded import Array


def require_plain(attrs: Any) -> None:
    """Raise BitExactError unless ``attrs`` are of a convolution as above: NCHW, OIHW, nothing but weights."""
    got = {name: [int(v) for v in getattr(attrs, name)] for name in ("strides", "dilation", "padding")}
    layouts = [str(getattr(attrs, name)) for name in ("data_layout", "kernel_layout", "out_layout")]
    expected = {"strides": [1, 1], "dilation": [1, 1], "padding": [0, 0, 0, 0]}
    if got != expected or int(attrs.groups) != 1 or layouts != ["NCHW", "OIHW", "NCHW"]:
        raise BitExactError(
            f"conv2d: expected {expected}, one group, NCHW and OIHW, got {got}, {attrs.groups} groups, {layouts}; "
            "write it so in the graph"
        )


def conv2d(x: Bounded, weight: Bounded) -> Bounded:
    """x [N, C, H + K_h - 1, W + K_w - 1], weight [O, C, K_h, K_w] -> [N, O, H, W]; images one at a time."""
    rows = [_image(Bounded(value, error), weight) for value, error in zip(x.value, x.error, strict=True)]
    return Bounded(np.stack([row.value for row in rows]), np.stack([row.error for row in rows]))


def _image(x: Bounded, weight: Bounded) -> Bounded:
    outputs, channels, height, width = weight.value.shape
    flat = weight.reshape(outputs, channels * height * width)
    columns = Bounded(_columns(x.value, height, width), _columns(x.error, height, width))
    product = bounded.matmul(flat, columns)
    return product.reshape(outputs, x.value.shape[1] - height + 1, x.value.shape[2] - width + 1)


def _columns(x: Array, height: int, width: int) -> Array:
    """[C, H, W] -> [C K_h K_w, places]: what each place of the result sees."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), (1, 2))
    return windows.transpose(0, 3, 4, 1, 2).reshape(x.shape[0] * height * width, -1)


def padded(expr: Any, array: Array) -> Array:
    """``array`` with the zeros of a relax.nn.pad around it; raises BitExactError for another value or mode."""
    value, mode = float(expr.attrs.pad_value), str(expr.attrs.pad_mode)
    if value != 0.0 or mode != "constant":
        raise BitExactError(f"pad: expected zeros, got {value} in mode {mode}; write it so in the graph")
    widths = np.array([int(v) for v in expr.attrs.pad_width]).reshape(-1, 2)
    return np.pad(array, [(int(before), int(after)) for before, after in widths])
