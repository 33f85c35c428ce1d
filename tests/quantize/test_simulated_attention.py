"""Attention by codes is integer arithmetic around a float softmax, near attention in float, and gone afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate.attended import measure_attended
from tvm_flow.model import AnyModel
from tvm_flow.model.layers import attend
from tvm_flow.quantize.prepare import Fitting
from tvm_flow.quantize.simulated import Clock, simulated_outputs
from tvm_flow.quantize.simulated_attention import AttentionCodes, attending_in_int8, attention_codes
from tvm_flow.sampler import SamplerConfig, model_outputs

MODELS = ["STDiT3", "STDiT"]


def codes_of(*most: float) -> AttentionCodes:
    """One step; uncond reaches twice as far."""
    return attention_codes({"attn": torch.tensor([most, [2 * m for m in most]])[None]}, np.array([0]), False)["attn"]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_both_products_are_of_integers() -> None:
    q, k, v = (drawn(2, 3, 5, 8, seed=seed) for seed in range(3))
    got = codes_of(3.0, 2.0, 2.5).mixed(0, q, k, v).numpy()
    for branch in (0, 1):
        units = [np.float32(most * (1 + branch)) / np.float32(127) for most in (3.0, 2.0, 2.5)]
        whole = [
            np.clip(np.rint(x[branch].numpy() / unit), -128, 127).astype(np.int32)
            for x, unit in zip((q, k, v), units, strict=True)
        ]
        scores = (whole[0] @ whole[1].transpose(0, 2, 1)) * (float(units[0]) * float(units[1]) * 8**-0.5)
        weights = np.rint(255 * np.exp(scores - scores.max(-1, keepdims=True))).astype(np.int32)
        want = (weights @ whole[2]) / weights.sum(-1, keepdims=True) * units[2]
        # Sums of codes are exact below 2^24; what is left is v's unit by their sum, and the product with it.
        np.testing.assert_allclose(got[branch], want.transpose(1, 0, 2).reshape(5, 24), rtol=4 * 2.0**-24, atol=0)


def test_padded_keys_count_for_nothing() -> None:
    q, k, v = drawn(2, 1, 4, 8), drawn(2, 1, 6, 8, seed=1), drawn(2, 1, 6, 8, seed=2)
    bias = torch.tensor([0.0, 0, 0, 0, -torch.inf, -torch.inf]).expand(2, 1, 1, 6)
    codes = codes_of(3.0, 3.0, 3.0)
    got = codes.mixed(0, q, k, v, bias)
    assert torch.equal(got, codes.mixed(0, q, k[:, :, :4], v[:, :, :4]))


def test_even_weights_of_many_keys_still_give_the_mean() -> None:
    """1 / 1024 is no code of 1 / 255: what is rounded are weights before their division."""
    q, k, v = torch.zeros(2, 1, 1, 8), drawn(2, 1, 1024, 8), drawn(2, 1, 1024, 8, seed=1)
    got, want = codes_of(1.0, 4.0, 4.0).mixed(0, q, k, v), attend(q, k, v)
    assert (got - want).abs().max() < 8.0 / 127 / 2, "less than half a code of V in the further branch"


def test_groups_and_branches_join_and_the_captions_keys_are_the_same_at_all_steps() -> None:
    most = torch.arange(1.0, 19.0).reshape(3, 2, 3)
    found = attention_codes({"a.attn": most, "a.cross_attn": most}, np.array([0, 0, 1]), shared=False)
    unit = 1 / torch.tensor(127.0)
    assert torch.allclose(found["a.attn"].k.scale, torch.tensor([[8.0, 11], [8, 11], [14, 17]]) * unit)
    assert torch.allclose(found["a.cross_attn"].q.scale, torch.tensor([[7.0, 10], [7, 10], [13, 16]]) * unit)
    assert torch.allclose(found["a.cross_attn"].v.scale, torch.tensor([[15.0, 18]] * 3) * unit)
    shared = attention_codes({"a.attn": most}, np.arange(3), shared=True)["a.attn"].q.scale
    assert torch.allclose(shared, torch.tensor([[4.0] * 2, [10] * 2, [16] * 2]) * unit)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_a_model_errs_least_by_what_calibration_saw_and_is_itself_afterwards(
    model: AnyModel, fitting: Fitting, sampler: SamplerConfig, caption: tuple[Tensor, Tensor]
) -> None:
    seen = measure_attended(fitting.denoising, fitting.prompts, fitting.embed)
    z, clock = drawn(1, 4, 3, 6, 5, seed=1), Clock()  # where the calibrated trajectory of this caption begins
    start = sampler.timesteps()[0]
    exact = model_outputs(model, *caption, sampler)(z, 0, start)[0]
    errors = []
    for factor in (1, 8, 1 / 8):  # the second has coarse codes, the third saturates
        codes = attention_codes({name: factor * most for name, most in seen.items()}, np.arange(4), False)
        with attending_in_int8(model, codes, clock):
            during = simulated_outputs(model, clock, caption, sampler)(z, 0, start)[0]
        errors.append(float((during - exact).norm()))
    assert 0 < errors[0] < min(errors[1:]), errors
    assert torch.equal(model_outputs(model, *caption, sampler)(z, 0, start)[0], exact)
