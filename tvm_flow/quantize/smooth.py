"""SmoothQuant factors (arXiv 2211.10438) and the activation scales that follow from them.

Every layer has ONE smoothing vector, shared by all steps and branches, because a vector per step would need a
set of int8 weights per step. What differs from step to step is only the activation scale, a number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_flow.calibrate import LayerRanges
from tvm_flow.errors import QuantizeError
from tvm_flow.numerics import activation_scale
from tvm_flow.quantize.recipe import Recipe

Floats = NDArray[np.float32]

_LEAST_WEIGHT = 1e-5  # of a layer's greatest column; SmoothQuant's own clamp


def smoothing_gain(absmax_x: Floats, absmax_w: Floats, alpha: float) -> Floats:
    """float32 [K], 1 / s for s_j = absmax_x_j^alpha / absmax_w_j^(1 - alpha), scaled to geometric mean 1.

    ``absmax_x`` [K] over all steps and branches, ``absmax_w`` [K] over output channels. The common factor
    cancels between activations and weights; fixing it keeps both in their usual range. A channel never seen
    active has s = 1: it says nothing of what it may carry later. Weights below 1e-5 of the greatest count as
    that, so that a dead column gives a small activation, not a division by zero.
    """
    x, w = absmax_x.astype(np.float64), absmax_w.astype(np.float64)
    live = x > 0
    if not live.any() or not (w > 0).any():
        return np.ones(len(x), np.float32)
    w = np.maximum(w, _LEAST_WEIGHT * w.max())
    logs = alpha * np.log(x[live]) - (1 - alpha) * np.log(w[live])
    gain = np.ones(len(x), np.float32)
    gain[live] = np.exp(logs.mean() - logs)
    if not (np.isfinite(gain).all() and (gain > np.finfo(np.float32).tiny).all()):
        raise QuantizeError(
            f"smoothing: expected factors within float32, got 1/s from {gain.min()} to {gain.max()}; "
            f"lower smoothing.alpha or leave this layer out of smoothing.layers"
        )
    return gain


def activation_scales(
    ranges: LayerRanges, gain: Floats | None, recipe: Recipe, timeless: bool = False
) -> tuple[Floats, NDArray[np.int8] | None]:
    """Scales float32 [steps, 2], zero points int8 [steps, 2] (None for symmetric) of a smoothed input.

    Channel c of x * gain lies in [max(min, -absmax_c), min(max, absmax_c)] * gain_c, and the union over c is
    the range: exact for symmetric activations, and never narrower than the data for asymmetric ones, whose
    minimum per channel is not recorded. ``recipe.ranges`` and ``recipe.branches`` then join steps or
    branches; an input that is ``timeless`` joins its steps whatever the recipe says.
    """
    low = np.maximum(ranges.min[..., None], -ranges.absmax).astype(np.float64)
    high = np.minimum(ranges.max[..., None], ranges.absmax).astype(np.float64)
    if gain is not None:
        low, high = low * gain, high * gain
    lo, hi = low.min(-1), high.max(-1)
    joined = [axis for axis, joins in enumerate(_joins(recipe, timeless)) if joins]
    for axis in joined:
        lo = np.broadcast_to(lo.min(axis, keepdims=True), lo.shape)
        hi = np.broadcast_to(hi.max(axis, keepdims=True), hi.shape)
    symmetric = recipe.activation == "symmetric"
    pairs = [activation_scale(a, b, symmetric) for a, b in zip(lo.ravel(), hi.ravel(), strict=True)]
    scale = np.array([pair[0] for pair in pairs], np.float32).reshape(lo.shape)
    if symmetric:
        return scale, None
    return scale, np.array([pair[1] for pair in pairs], np.int8).reshape(lo.shape)


def _joins(recipe: Recipe, timeless: bool) -> tuple[bool, bool]:
    return timeless or recipe.ranges == "all_steps", recipe.branches == "shared"
