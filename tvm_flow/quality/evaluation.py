"""Generate clips over the caption set with the float model and judge them."""

from __future__ import annotations

import torch
from torch import Tensor

from tvm_flow.demo.assets import Captions, demo_noise
from tvm_flow.demo.vae import VAE
from tvm_flow.model import STDiT3
from tvm_flow.quality.judge import Judge
from tvm_flow.sampler import SamplerConfig, model_velocity, sample


def spread_captions(captions: Captions, count: int) -> list[str]:
    """``count`` captions evenly over the set: a stride prime to its size visits every kind."""
    names = list(captions)
    return [names[k * 73 % len(names)] for k in range(count)]


@torch.no_grad()
def generate(
    model: STDiT3,
    vae: VAE,
    captions: Captions,
    prompts: list[str],
    sampler: SamplerConfig,
    seed: int,
    batch: int = 16,
) -> Tensor:
    """Videos of ``prompts`` by the float model, float32 [N, 8, 32, 32, 3] in 0..1."""
    noise = demo_noise(len(prompts), seed)
    videos = []
    for start in range(0, len(prompts), batch):
        tokens, mask = captions.batch(prompts[start : start + batch])
        velocity = model_velocity(model, tokens, mask, sampler)
        videos.append(vae.decode(sample(velocity, noise[start : start + batch], sampler)))
    return torch.cat(videos)


def evaluate(
    model: STDiT3, vae: VAE, judge: Judge, captions: Captions, sampler: SamplerConfig, count: int, seed: int
) -> dict[str, float]:
    """Judge scores over ``count`` generated clips; see Judge.score."""
    prompts = spread_captions(captions, count)
    return judge.score(generate(model, vae, captions, prompts, sampler, seed), prompts)
