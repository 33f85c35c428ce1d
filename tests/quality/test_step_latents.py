"""Latents after each step: those of the loops that run without looking at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny_model, toy_bundle

from tvm_flow.pack import write_bundle
from tvm_flow.quality.step_latents import bundle_latents_of_steps, float_latents_of_steps, psnr_of_steps
from tvm_flow.run import Bundle
from tvm_flow.sampler import SamplerConfig, denoise, drawn_from, model_outputs

SAMPLERS = [
    SamplerConfig(steps=3),
    SamplerConfig(name="ddim", steps=3, eta=0.5),
    SamplerConfig(name="iddpm", steps=4),
]


@pytest.mark.parametrize("config", SAMPLERS, ids=lambda config: config.name)
def test_the_last_of_a_bundle_is_what_it_generates_bit_for_bit(config: SamplerConfig, tmp_path: Path) -> None:
    contents = toy_bundle.sampled_contents(tmp_path, config)
    write_bundle(tmp_path / "b", contents)
    golden, seen = contents.golden, []
    with Bundle.open(tmp_path / "b", threads=1) as bundle:
        both = (golden.cond, golden.uncond)
        each = bundle_latents_of_steps(bundle, both, golden.noise, 5, lambda: seen.append(1))
        assert each[-1].tobytes() == bundle.generate(golden.noise, *both, seed=5).tobytes()
    assert each.shape == (config.steps, *golden.noise.shape) and len(seen) == config.steps
    request = toy_bundle.Request(golden.noise, *both)
    for step in range(config.steps):
        assert each[step].tobytes() == toy_bundle.generate(contents, request, 5, step + 1).tobytes()


@pytest.mark.parametrize("config", SAMPLERS, ids=lambda config: config.name)
def test_the_last_of_a_float_model_is_what_it_denoises_to(config: SamplerConfig) -> None:
    model = tiny_model.make_model(tiny_model.CONFIG if config.name == "rflow" else tiny_model.STDIT_CONFIG)
    noise = torch.randn(1, *tiny_model.LATENT, generator=torch.Generator().manual_seed(0))
    caption = tiny_model.embed(["short"])
    each = float_latents_of_steps(model, config, caption, noise[0].numpy(), 7)
    end = denoise(model_outputs(model, *caption, config), noise, config, drawn_from(7, tiny_model.LATENT))
    assert each.shape == (config.steps, *tiny_model.LATENT)
    np.testing.assert_array_equal(each[-1], end[0].numpy())


def test_decibels_are_over_all_videos_of_a_step() -> None:
    exact = np.zeros((2, 3, 4), np.float32)
    exact[:, :, 0] = 1  # a range of 1
    ours = exact[:, :2].copy()
    ours[0, 1, 2] += 0.2  # mean square 0.04 / 8
    assert psnr_of_steps(exact, ours) == [np.inf, pytest.approx(10 * np.log10(8 / 0.04), abs=1e-5)]
