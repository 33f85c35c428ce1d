"""Pieces of a decoder's graph: convolutions, group norm, and the rest that image autoencoders are made of.

Images are float32 [N, C, H, W]. Everything is written with operators that the importer has a meaning for:

    conv        Conv with a bias, stride 1
    causal      a causal 3D convolution over the frames N of one clip: a 2D one over each frame beside those before it
    group norm  y = (x - mean) / sqrt(var + eps) gain + shift, over (C / groups, H, W) of a frame or of the whole clip
    silu        x sigmoid(x)
    attention   softmax(q k^T / sqrt(C)) v over the pixels of an image, one head
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tvm_flow.export.linear import float_linear
from tvm_flow.export.writer import GraphWriter

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """The tensor ``name`` of the graph: float32 [count, channels, height, width]."""

    name: str
    count: int
    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, C, H, W]."""
        return self.count, self.channels, self.height, self.width

    def named(self, name: str) -> Images:
        """Another tensor of this shape."""
        return Images(name, *self.shape)


@dataclass(frozen=True)
class ImageWriter:
    """Appends to the graph ``g``; weights are those of ``params``, a state dict, under their own names."""

    g: GraphWriter
    params: Mapping[str, Floats]

    def conv(self, x: Images, name: str) -> Images:
        """Convolution ``name``, padded with zeros to keep the size."""
        weight = self.params[f"{name}.weight"]
        return self._conv(x, name, weight)

    def causal(self, x: Images, name: str) -> Images:
        """3D convolution ``name`` [O, C, K, K, K] over the clip ``x``, zeros before its first frame.

        Frame t of the input is frames t - K + 1 to t, one after the other along the channels.
        """
        weight = self.params[f"{name}.weight"]
        outputs, channels, kernel, *_ = weight.shape
        wide = weight.transpose(0, 2, 1, 3, 4).reshape(outputs, kernel * channels, *weight.shape[3:])
        if kernel > 1:
            before = self.g.shared(f"zeros_{kernel - 1}_{x.channels}_{x.height}_{x.width}", _zeros(kernel - 1, x))
            padded = self.g.op("Concat", [before, x.name], axis=0)
            parts = [self._frames(padded, back, back + x.count) for back in range(kernel)]
            x = Images(self.g.op("Concat", parts, axis=1), x.count, kernel * channels, x.height, x.width)
        return self._conv(x, name, np.ascontiguousarray(wide))

    def _conv(self, x: Images, name: str, weight: Floats) -> Images:
        outputs, _, kernel, _ = weight.shape
        inputs = [x.name, self.g.shared(f"{name}.weight", weight)]
        if f"{name}.bias" in self.params:
            inputs.append(self.g.shared(f"{name}.bias", self.params[f"{name}.bias"]))
        out = self.g.op("Conv", inputs, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4)
        return Images(out, x.count, outputs, x.height, x.width)

    def _frames(self, x: str, start: int, stop: int) -> str:
        return self.g.op("Slice", [x, self.g.integers(start), self.g.integers(stop), self.g.integers(0)])

    def frames(self, x: Images, start: int, stop: int) -> Images:
        """Frames ``start`` to ``stop`` of a clip."""
        return Images(self._frames(x.name, start, stop), stop - start, *x.shape[1:])

    def norm(self, x: Images, name: str, groups: int, eps: float, clip: bool = False) -> Images:
        """Group norm ``name``; over all frames together with ``clip``."""
        g, rows = self.g, (x.count, groups, x.channels // groups * x.height * x.width)
        flat = g.reshape(x.name, *rows)
        if clip:
            flat = g.reshape(g.transpose(flat, 1, 0, 2), groups, rows[0] * rows[2])
        centred = g.op("Sub", [flat, self._mean(flat)])
        variance = self._mean(g.op("Mul", [centred, centred]))
        root = g.op("Sqrt", [g.op("Add", [variance, self._number(eps)])])
        normal = g.op("Div", [centred, root])
        if clip:
            normal = g.transpose(g.reshape(normal, groups, rows[0], rows[2]), 1, 0, 2)
        normal = g.reshape(normal, *x.shape)
        gain, shift = (self.channels(f"{name}.{part}", self.params[f"{name}.{part}"]) for part in ("weight", "bias"))
        return x.named(g.op("Add", [g.op("Mul", [normal, gain]), shift]))

    def _mean(self, x: str) -> str:
        return self.g.op("ReduceMean", [x, self.g.integers(-1)], keepdims=1)

    def silu(self, x: Images) -> Images:
        """x sigmoid(x)."""
        return x.named(self.g.op("Mul", [x.name, self.g.op("Sigmoid", [x.name])]))

    def add(self, x: Images, y: Images) -> Images:
        """x + y."""
        return x.named(self.g.op("Add", [x.name, y.name]))

    def affine(self, x: Images, scale: Floats, shift: Floats) -> Images:
        """x scale + shift, both float32 [C]."""
        product = self.g.op("Mul", [x.name, self.channels("latent.scale", scale)])
        return x.named(self.g.op("Add", [product, self.channels("latent.shift", shift)]))

    def twice(self, x: Images) -> Images:
        """Every pixel repeated to 2x2 (nearest): the product with a square of ones, which fuses with what follows."""
        g, (n, c, h, w) = self.g, x.shape
        square = g.shared("square_of_ones", np.ones((1, 1, 1, 2, 1, 2), np.float32))
        spread = g.op("Mul", [g.reshape(x.name, n, c, h, 1, w, 1), square])
        return Images(g.reshape(spread, n, c, 2 * h, 2 * w), n, c, 2 * h, 2 * w)

    def attention(self, x: Images, name: str, groups: int, eps: float) -> Images:
        """x + to_out(attention(norm(x))), under diffusers' names."""
        g, (n, c, h, w) = self.g, x.shape
        rows = g.transpose(g.reshape(self.norm(x, f"{name}.group_norm", groups, eps).name, n, c, h * w), 0, 2, 1)
        q, k, v = (self.linear(rows, f"{name}.{part}") for part in ("to_q", "to_k", "to_v"))
        scores = g.op("MatMul", [g.op("Mul", [q, self._number(c**-0.5)]), g.transpose(k, 0, 2, 1)])
        mixed = self.linear(g.op("MatMul", [g.op("Softmax", [scores], axis=-1), v]), f"{name}.to_out.0")
        return self.add(x, x.named(g.reshape(g.transpose(mixed, 0, 2, 1), n, c, h, w)))

    def linear(self, x: str, name: str) -> str:
        """x W^T + b over the last axis."""
        return float_linear(self.g, x, name, self.params[f"{name}.weight"], self.params[f"{name}.bias"])

    def pixels(self, x: Images) -> str:
        """Images of three channels from -1 to 1 as frames [N, H, W, 3] in 0..1."""
        return self.unit(self.g.transpose(x.name, 0, 2, 3, 1))

    def unit(self, x: str) -> str:
        """-1..1 to 0..1, clipped: with d = 1 - (x / 2 + 1/2) it is relu(1 - relu(d))."""
        half, one = self._number(0.5), self._number(1.0)
        below = self.g.op("Relu", [self.g.op("Sub", [half, self.g.op("Mul", [x, half])])])
        return self.g.op("Relu", [self.g.op("Sub", [one, below])])

    def channels(self, name: str, value: Floats) -> str:
        """A vector along the channels of images."""
        return self.g.shared(f"{name}.nchw", value.reshape(1, -1, 1, 1))

    def _number(self, value: float) -> str:
        return self.g.shared(f"number_{value!r}", np.array(value, np.float32))


def _zeros(count: int, x: Images) -> Floats:
    return np.zeros((count, *x.shape[1:]), np.float32)
