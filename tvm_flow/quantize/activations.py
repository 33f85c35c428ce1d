"""Scales and zero points of a layer's input per step group and branch: by its range, or by its output's error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tvm_flow.numerics.quantize import activation_scale, greatest_code
from tvm_flow.quantize.grouping import Groups
from tvm_flow.quantize.recipe import Recipe
from tvm_flow.quantize.rounding import RATIOS
from tvm_flow.quantize.simulated import StaticCodes

PERCENTILE = 0.999
MOST_ROWS = 512
"""Of a unit, that a search for clipping looks at."""


@dataclass(frozen=True, eq=False)
class Units:
    """Steps and branches that share their tables: ``groups`` int64 [steps]; ``shared`` joins the branches, too."""

    groups: Groups
    shared: bool

    def __iter__(self) -> Iterator[tuple[Tensor, slice]]:
        """Steps and branches of every unit."""
        for group in np.unique(self.groups):
            steps = torch.from_numpy(np.flatnonzero(self.groups == group))
            for branches in [slice(0, 2)] if self.shared else [slice(0, 1), slice(1, 2)]:
                yield steps, branches

    def averaged(self, values: Tensor) -> Tensor:
        """[steps, 2, C] -> the same, each unit with its mean."""
        out = torch.empty_like(values)
        for steps, branches in self:
            out[steps, branches] = values[steps, branches].mean((0, 1))
        return out


def static_codes(
    name: str, seen: tuple[Tensor, tuple[Tensor, Tensor]], weight: Tensor, recipe: Recipe, groups: Groups
) -> StaticCodes:
    """Tables of the layer ``name``; ``seen`` is what is rounded: rows [steps, 2, n, K], and (low, high) [steps, 2].

    ``weight`` [N, K] says what an error of the input costs.
    """
    rows, (low, high) = seen
    bits = tuple(recipe.bits(name, step).activations for step in range(len(groups)))
    scale, zero = torch.ones(len(groups), 2), torch.zeros(len(groups), 2)
    symmetric, gram = recipe.activation == "symmetric", weight.T @ weight
    for steps, branches in Units(groups, recipe.branches == "shared"):
        x = rows[steps, branches].flatten(0, 2)
        ends = float(low[steps, branches].min()), float(high[steps, branches].max())
        ends = ends[0] * recipe.fit.margin, ends[1] * recipe.fit.margin
        ends = _clipped(x, ends, gram, recipe, bits[int(steps[0])])
        for step in steps.tolist():  # an override may give steps of one group other bits
            scale[step, branches], zero[step, branches] = _float_pair(*activation_scale(*ends, symmetric, bits[step]))
    return StaticCodes(scale, zero, bits)


def output_error(x: Tensor, gram: Tensor, ends: tuple[float, float], symmetric: bool, bits: int) -> float:
    """Squared error of a linear's outputs over the rows ``x`` [n, K], when they are rounded in the range ``ends``.

    ``gram`` [K, K] is W^T W.
    """
    scale, zero = activation_scale(*ends, symmetric, bits)
    most = greatest_code(bits)
    codes = ((x / float(scale)).round_() + zero).clamp_(-most - 1, most) - zero
    lost = codes * float(scale) - x
    return float(((lost @ gram) * lost).sum())


def _clipped(x: Tensor, ends: tuple[float, float], gram: Tensor, recipe: Recipe, bits: int) -> tuple[float, float]:
    low, high = ends
    if recipe.fit.clip == "percentile":
        kept = x.abs().flatten()
        bound = float(kept.kthvalue(max(1, int(PERCENTILE * kept.numel()))).values)
        return max(low, -bound), min(high, bound)
    if recipe.fit.clip == "mse":
        some, symmetric = x[:: -(-len(x) // MOST_ROWS)], recipe.activation == "symmetric"
        errors = [output_error(some, gram, (low * r, high * r), symmetric, bits) for r in RATIOS]
        best = RATIOS[int(np.argmin(errors))]
        return low * best, high * best
    return ends


def _float_pair(scale: np.float32, zero: int) -> tuple[float, float]:
    return float(scale), float(zero)
