"""What attention multiplies is seen where it does so, without what is padded."""

from __future__ import annotations

import pytest
import torch
from support.tiny_model import LATENT, LENGTHS, SAMPLER, STDIT_CONFIG, embed, make_model

from tvm_flow.calibrate import CalibrationPrompt, Denoising, block_names
from tvm_flow.calibrate.attended import attention_names, measure_attended
from tvm_flow.calibrate.reach import measure_reach
from tvm_flow.errors import CalibrationError
from tvm_flow.model import STDiT3Config

PROMPTS = tuple(CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS))


def test_without_norms_it_is_what_the_linears_gave() -> None:
    denoising = Denoising(make_model(STDIT_CONFIG), SAMPLER, LATENT)
    found = measure_attended(denoising, PROMPTS, embed)
    reach = measure_reach(denoising, PROMPTS, embed, progress=False)
    for block in block_names(STDIT_CONFIG):
        for part in ("attn", "attn_temp"):
            want = reach[f"{block}.{part}.qkv"].unflatten(-1, (3, -1)).amax(-1)
            assert torch.equal(found[f"{block}.{part}"], want)
        q, kv = (reach[f"{block}.cross_attn.{part}"] for part in ("q_linear", "kv_linear"))
        want = torch.cat([q.amax(-1, keepdim=True), kv.unflatten(-1, (2, -1)).amax(-1)], -1)
        assert torch.equal(found[f"{block}.cross_attn"], want)
    assert set(found) == set(attention_names(STDIT_CONFIG)) and len(found) == 6


def test_an_stdit3_has_two_attentions_a_block() -> None:
    names = attention_names(STDiT3Config(depth=1, hidden=32, heads=2))
    assert names == tuple(f"{b}_blocks.0.{part}" for b in ("spatial", "temporal") for part in ("attn", "cross_attn"))


def test_what_is_not_finite_is_told_and_the_model_is_itself_again() -> None:
    model = make_model()
    model.get_submodule("spatial_blocks.0.attn.qkv").get_parameter("bias")[0] = float("nan")
    denoising = Denoising(model, SAMPLER, LATENT)
    with pytest.raises(CalibrationError, match=r"spatial_blocks.0.attn: expected finite q, k and v at step 0"):
        measure_attended(denoising, PROMPTS, embed)
    assert all("mixed" not in module.__dict__ for module in model.modules())
    with pytest.raises(CalibrationError, match="prompts: expected at least one"):
        measure_attended(denoising, [], embed)
