"""Codes of weights: in their range, and GPTQ below nearest in the error that counts."""

from __future__ import annotations

import pytest
import torch

from tvm_flow.quantize.recipe_parts import Fit
from tvm_flow.quantize.rounding import weight_codes


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, and inputs whose channels go together."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(48, 48, generator=generator)
    return torch.randn(32, 48, generator=generator), torch.randn(400, 48, generator=generator) @ mix


def lost(fit: Fit, bits: int) -> float:
    weight, x = problem()
    codes, scale = weight_codes(weight, bits, fit, x.T @ x)
    return float((x @ (codes * scale[:, None] - weight).T).square().sum())


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("fit", [Fit(), Fit(rounding="gptq"), Fit(weight_clip="mse", rounding="gptq")], ids=str)
def test_codes_are_whole_and_symmetric(bits: int, fit: Fit) -> None:
    weight, x = problem()
    codes, _ = weight_codes(weight, bits, fit, x.T @ x)
    assert torch.equal(codes, codes.round()) and codes.abs().max() <= 2 ** (bits - 1) - 1


def test_gptq_loses_less_than_nearest() -> None:
    assert lost(Fit(rounding="gptq"), 4) < 0.6 * lost(Fit(), 4)


def test_gptq_bears_channels_that_are_never_active() -> None:
    weight, x = problem()
    x[:, 5] = 0
    codes, scale = weight_codes(weight, 4, Fit(rounding="gptq"), x.T @ x)
    assert torch.isfinite(codes).all() and torch.isfinite(scale).all()
