"""Generate clips over the caption set with the float model and judge them."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class FloatDemo:
    """What makes videos of captions in float: the model, what reads its captions and what decodes its latents."""

    model: STDiT3
    captions: Captions
    vae: VAE
    sampler: SamplerConfig


@torch.no_grad()
def generate(demo: FloatDemo, prompts: list[str], seed: int, batch: int = 16) -> Tensor:
    """Videos of ``prompts``, float32 [N, 8, 32, 32, 3] in 0..1."""
    noise = demo_noise(len(prompts), seed)
    videos = []
    for start in range(0, len(prompts), batch):
        tokens, mask = demo.captions.batch(prompts[start : start + batch])
        velocity = model_velocity(demo.model, tokens, mask, demo.sampler)
        videos.append(demo.vae.decode(sample(velocity, noise[start : start + batch], demo.sampler)))
    return torch.cat(videos)


def evaluate(demo: FloatDemo, judge: Judge, count: int, seed: int) -> dict[str, float]:
    """Judge scores over ``count`` generated clips; see Judge.score."""
    prompts = spread_captions(demo.captions, count)
    return judge.score(generate(demo, prompts, seed), prompts)
