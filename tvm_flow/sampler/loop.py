"""The denoising loop: Euler steps along a guided velocity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tvm_flow.errors import ConfigError
from tvm_flow.model import Video
from tvm_flow.sampler.config import TRAIN_STEPS, SamplerConfig

Progress = Callable[[int, int], None]


class Velocity(Protocol):
    """Whatever predicts velocity: the float model, a fake-quantized one, the integer executor, a library."""

    def __call__(self, z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        """z [B, C, T, H, W], step index, timestep in 0..1000 -> (cond, uncond), each shaped like z."""


class FloatModel(Protocol):
    """What ``model_velocity`` needs of STDiT3."""

    def __call__(self, z: Tensor, t: Tensor, y: Tensor, mask: Tensor, video: Video) -> Tensor:
        """See STDiT3.forward."""

    def null_caption(self, batch: int) -> Tensor:
        """[batch, L, caption_channels]."""


def guide(cond: Tensor, uncond: Tensor, cfg_scale: float) -> Tensor:
    """Classifier-free guidance: uncond + cfg_scale * (cond - uncond)."""
    return uncond + cfg_scale * (cond - uncond)


def sample(
    velocity: Velocity, z: Tensor, config: SamplerConfig, progress: Progress | None = None, start: int = 0
) -> Tensor:
    """Denoise ``z`` [B, C, T, H, W] (unit Gaussian, any float dtype) to a latent of the same shape and dtype.

    z += v * dt / 1000 at every step, in its dtype; ``progress(done, steps)`` is called after each. The first ``start``
    steps are passed over: ``z`` is what they made.
    Raises ConfigError for another sampler than rflow, and when a velocity has another shape than ``z``.
    """
    grid = zip(config.timesteps().tolist(), config.dts().tolist(), strict=True)
    for step, (t, dt) in list(enumerate(grid))[start:]:
        cond, uncond = velocity(z, step, t)
        if cond.shape != z.shape or uncond.shape != z.shape:
            raise ConfigError(
                f"velocity at step {step}: expected two tensors of {list(z.shape)}, got "
                f"{list(cond.shape)} and {list(uncond.shape)}; keep only the first in_channels"
            )
        z = z + guide(cond.to(z.dtype), uncond.to(z.dtype), config.cfg_scale) * (dt / TRAIN_STEPS)
        if progress is not None:
            progress(step + 1, config.steps)
    return z


def model_velocity(model: FloatModel, y: Tensor, mask: Tensor, config: SamplerConfig) -> Velocity:
    """The float model as a Velocity: the first half of the channels of `model_outputs`."""
    outputs = model_outputs(model, y, mask, config)

    def velocity(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        cond, uncond = outputs(z, step, t)
        return cond[:, : z.shape[1]], uncond[:, : z.shape[1]]

    return velocity


def model_outputs(model: FloatModel, y: Tensor, mask: Tensor, config: SamplerConfig) -> Velocity:
    """All channels that an STDiT3 puts out, two tensors [B, 2 * C, T, H, W]: velocity or noise, and variance.

    Both CFG halves run in one batch, the null half under the prompt's own mask. y [B, L, caption_channels], mask
    [B, L] bool.
    """
    both = torch.cat([y, model.null_caption(len(y)).to(y)])
    masks = torch.cat([mask, mask])
    video = Video(config.fps, float(config.height), float(config.width))

    @torch.no_grad()
    def outputs(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        twice = torch.cat([z, z]).to(y.dtype)
        ts = torch.full((len(twice),), t, dtype=torch.float32)
        cond, uncond = model(twice, ts, both, masks, video).chunk(2)
        return cond, uncond

    return outputs
