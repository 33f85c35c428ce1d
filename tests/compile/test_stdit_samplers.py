"""The v1 model with large random weights, whose attention is a choice, builds with every sampler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import tiny_model

from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.model import AnyConfig, AnyModel, STDiT
from tvm_flow.sampler import SamplerConfig
from tvm_flow.sampler.config import SAMPLERS
from tvm_flow.target.spec import TargetSpec

pytestmark = pytest.mark.usefixtures("kernels_once")
MODEL = replace(tiny_model.STDIT_CONFIG, depth=1)
SIZE = {"cfg_scale": 2.0, "fps": 8.0, "frames": 3, "height": 32, "width": 32}
CONFIGS = [
    SamplerConfig(steps=3, ratio=3.0, **SIZE),  # type: ignore[arg-type]
    SamplerConfig(name="ddim", steps=3, **SIZE),  # type: ignore[arg-type]
    SamplerConfig(name="ddim", steps=2, eta=0.5, **SIZE),  # type: ignore[arg-type]
    SamplerConfig(name="iddpm", steps=1, **SIZE),  # type: ignore[arg-type]
    SamplerConfig(name="iddpm", steps=4, **SIZE),  # type: ignore[arg-type]
]
SIZES = {
    "qkv.weight": 1000.0,
    "attn.proj.weight": 1e-3,
    "attn_temp.proj.weight": 1e-3,
    "final_layer.linear.weight": 0.02,
}
"""Logits whose own rounding errors are beyond 1, behind them and at the end numbers near 1.

A random choice is a choice: its shares are 1 and 0 in kernel and reference alike, whatever the bound. So the keys of
the first head are equal, and its shares are an equal part each, which rounds.
"""
HEADS = MODEL.heads


def large_model(config: AnyConfig = MODEL) -> AnyModel:
    assert config == MODEL
    torch.manual_seed(0)  # of its buffers
    generator = torch.Generator().manual_seed(1)
    model = STDiT(MODEL).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        size = next((size for end, size in SIZES.items() if name.endswith(end)), 1.0)
        scale = size * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.1
        weight.data = scale * torch.randn(weight.shape, generator=generator)
        if name.endswith(("qkv.weight", "qkv.bias")):
            _, keys, _ = weight.data.chunk(3)
            keys[: len(keys) // HEADS] = 1e4 if name.endswith("bias") else 0.0
    return model


def test_every_sampler_is_here() -> None:
    assert {config.name for config in CONFIGS} == set(SAMPLERS)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.steps}-{c.eta}")
def test_large_logits_are_checked(
    config: SamplerConfig, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model, "make_model", large_model)
    ranges = tiny_model.make_ranges(tmp_path, config, MODEL)
    _, exported = tiny_model.make_export(ranges, "w8a8", tmp_path, MODEL)
    made = compile_bundle(exported, host, tmp_path / "bundle", CompileOptions(threads=1, progress=False))
    assert made.exactness["calls"] == made.exactness["expected_calls"] and made.exactness["worst_float"] <= 1
