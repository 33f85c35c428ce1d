"""Whole trajectories of any sampler, from what a model puts out in all its channels."""

from __future__ import annotations

import torch
from torch import Tensor

from tvm_flow.sampler.config import SamplerConfig
from tvm_flow.sampler.diffusion import Noise, Prediction, sample_diffusion
from tvm_flow.sampler.loop import Progress, sample
from tvm_flow.sampler.noise import seeded_noise


def denoise(
    predict: Prediction,
    z: Tensor,
    config: SamplerConfig,
    noise: Noise | None = None,
    progress: Progress | None = None,
    start: int = 0,
) -> Tensor:
    """`sample` or `sample_diffusion`, whichever ``config`` names; rflow takes the first half of the channels.

    Raises what they raise.
    """
    if config.name != "rflow":
        return sample_diffusion(predict, z, config, noise, progress, start)

    def velocity(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        cond, uncond = predict(z, step, t)
        return cond[:, : z.shape[1]], uncond[:, : z.shape[1]]

    return sample(velocity, z, config, progress, start)


def drawn_from(seed: int, shape: tuple[int, ...]) -> Noise:
    """The noise that the C runtime draws for ``seed`` when its caller draws none: step -> float32 [1, *shape]."""

    def noise(step: int) -> Tensor:
        return torch.from_numpy(seeded_noise(seed, step + 1, shape))[None]

    return noise
