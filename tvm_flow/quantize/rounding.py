"""Weights to codes of a few bits: clipped or not, to the nearest or by GPTQ (arXiv 2210.17323).

Of the roundings that lessen the error of a layer's output, GPTQ and AdaRound (arXiv 2004.10568), GPTQ: one pass of
linear algebra over a Hessian that sums the inputs of all steps and branches, where AdaRound descends a gradient for
each layer, with a schedule to be tuned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tvm_flow.numerics.quantize import greatest_code, weight_scale
from tvm_flow.quantize.recipe_parts import Fit

RATIOS = tuple(1 - 0.05 * k for k in range(13))
"""Shares of the full range that a search for clipping tries, 1 to 0.4."""
DAMPING = 0.01
"""Of the Hessian's mean diagonal, added to it: GPTQ's own."""


def weight_codes(weight: Tensor, bits: int, fit: Fit, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers float32 [N, K] and their scales float32 [N], for ``weight`` [N, K].

    ``hessian`` [K, K] is the sum of x x^T over the layer's inputs of all steps: what an error of a weight costs.
    """
    scale = torch.from_numpy(weight_scale(weight.numpy(), bits))
    if fit.weight_clip == "mse":
        scale = scale * _best_shares(weight, scale, bits, hessian.diagonal())
    if fit.rounding == "gptq":
        return _gptq(weight, scale, bits, hessian), scale
    return nearest(weight, scale[:, None], bits), scale


def nearest(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Symmetric codes of ``values``, never the least one."""
    most = greatest_code(bits)
    return (values / scale).round_().clamp_(-most, most)


def _best_shares(weight: Tensor, scale: Tensor, bits: int, cost: Tensor) -> Tensor:
    """float32 [N]: of `RATIOS`, that by which a channel's scale costs least; ``cost`` [K] weighs squared errors."""
    errors = []
    for ratio in RATIOS:
        narrow = (scale * ratio)[:, None]
        errors.append(((nearest(weight, narrow, bits) * narrow - weight).square() * cost).sum(1))
    return torch.tensor(RATIOS)[torch.stack(errors).argmin(0)]


def _gptq(weight: Tensor, scale: Tensor, bits: int, hessian: Tensor) -> Tensor:
    """Round column after column; what each loses is made good in the columns that are still to come."""
    h = hessian.double().clone()
    dead = h.diagonal() <= 0
    h.diagonal()[dead] = 1
    h.diagonal().add_(DAMPING * h.diagonal().mean())
    order = h.diagonal().argsort(descending=True)  # what costs most is rounded while most can still make it good
    upper = torch.linalg.cholesky(torch.linalg.inv(h[order][:, order]), upper=True)
    left, codes = weight.double()[:, order], torch.empty_like(weight)
    wide = scale.double()
    for k, column in enumerate(order.tolist()):
        rounded = nearest(left[:, k], wide, bits)
        codes[:, column] = rounded.float()
        lost = (left[:, k] - rounded * wide) / upper[k, k]
        left[:, k + 1 :] -= lost[:, None] * upper[k, k + 1 :]
    return codes
