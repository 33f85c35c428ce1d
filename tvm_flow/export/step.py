"""What every part of a step graph is written with: a quantized model at one step and branch, its sizes, its linears."""

from __future__ import annotations

import numpy as np

from tvm_flow.export.channels import channel_order
from tvm_flow.export.linear import StepLinear, float_linear, linear
from tvm_flow.export.writer import GraphWriter, WeightFile
from tvm_flow.model.layers import NORM_EPS
from tvm_flow.quantize.quantized import QuantizedModel

MASKED = -1e9
"""Added to the score of a padded token: its softmax weight is then exactly zero in single precision."""


class StepWriter:
    """One step graph under construction; methods append nodes to ``g`` and return the tensor they produce.

    ``frames`` x ``height`` x ``width`` tokens, of which ``places`` a frame and ``tokens`` in all; ``padded`` is the
    shape [C, T, H, W] of the latent made up of whole patches.
    """

    def __init__(self, model: QuantizedModel, step: int, branch: int, weights: WeightFile) -> None:
        self.model, self.step, self.branch, self.g = model, step, branch, GraphWriter(weights)
        self.channels, *size = model.latent
        grid = [-(-extent // p) for extent, p in zip(size, model.config.patch, strict=True)]
        self.padded = (self.channels, *(count * p for count, p in zip(grid, model.config.patch, strict=True)))
        self.frames, self.height, self.width = grid
        self.places = self.height * self.width
        self.tokens = self.frames * self.places
        self.hidden, self.heads, self.head_dim = model.config.hidden, model.config.heads, model.config.head_dim
        self.caption = model.config.model_max_length

    def modulated(self, x: str, name: str, separator: str = "_") -> str:
        """LayerNorm whose scale and bias are this step's modulation."""
        vectors = [self.fold(f"{name}{separator}{part}") for part in ("scale", "shift")]
        return self.g.op("LayerNormalization", [x, *vectors], axis=-1, epsilon=NORM_EPS)

    def gated(self, x: str, update: str, gate: str) -> str:
        """x + update * gate."""
        return self.g.op("Add", [x, self.g.op("Mul", [update, self.fold(gate)])])

    def fold(self, name: str) -> str:
        """The vector ``name`` of this step."""
        return self.g.own(name, self.model.evaluate(name, self.step, self.branch))

    def linear(self, x: str, name: str) -> str:
        """The quantized linear ``name``, its output channels in their `channel_order`."""
        at = StepLinear(name, self.model.layers[name], self.step, self.branch)
        return linear(self.g, x, at, channel_order(self.model.config, name))

    def float_linear(self, x: str, name: str, rows: np.ndarray | slice = slice(None)) -> str:
        """The linear ``name`` that no recipe quantizes, of its output channels those in ``rows``."""
        weight, bias = (self.model.params[f"{name}.{part}"] for part in ("weight", "bias"))
        return float_linear(self.g, x, name, weight.reshape(len(weight), -1)[rows], bias[rows])
