"""DDIM and IDDPM, the samplers of Open-Sora v1.0: steps along predicted noise.

A model predicts noise and, in as many channels again, where the variance lies between its two bounds. x0 is not
clipped (clip_denoised False). Run on float64 these loops are what other implementations are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tvm_flow.errors import ConfigError
from tvm_flow.sampler.config import SamplerConfig
from tvm_flow.sampler.loop import Progress, guide
from tvm_flow.sampler.schedule import Schedule, make_schedule

Noise = Callable[[int], Tensor]
"""Step index -> unit Gaussian noise shaped like z."""


class Prediction(Protocol):
    """Whatever predicts noise and its variance: the float model, or one that is compiled."""

    def __call__(self, z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        """z [B, C, T, H, W], step index, timestep in 0..999 -> (cond, uncond), each [B, 2*C, T, H, W]."""


class NoiseModel(Protocol):
    """What ``model_prediction`` needs of STDiT."""

    def __call__(self, z: Tensor, t: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """See STDiT.forward."""

    def null_caption(self, batch: int) -> Tensor:
        """[batch, L, caption_channels]."""


def guide_channels(cond: Tensor, uncond: Tensor, cfg_scale: float, channels: int) -> Tensor:
    """Guidance on the first ``channels`` of [B, C, ...]; the others stay those of ``cond``.

    Open-Sora v1.0 guides 3 of 4 latent channels (forward_with_cfg), which its videos depend on.
    """
    return torch.cat([guide(cond[:, :channels], uncond[:, :channels], cfg_scale), cond[:, channels:]], dim=1)


def predict_x0(z: Tensor, noise: Tensor, schedule: Schedule, step: int) -> Tensor:
    """The clean latent that ``z`` was made of, were its noise ``noise``."""
    return float(schedule.x0_of_z[step]) * z - float(schedule.x0_of_noise[step]) * noise


def ddim_step(
    z: Tensor, noise: Tensor, schedule: Schedule, step: int, eta: float = 0.0, fresh: Tensor | None = None
) -> Tensor:
    """z at the next step: x0 and the same noise, mixed anew, a part of it replaced by ``fresh`` (DDIM, equation 12).

    With ``eta`` 0, and at the last step, no ``fresh`` is needed.
    """
    kept, sigma = float(schedule.alpha_bar_next[step]), float(schedule.ddim_sigma(eta)[step])
    z = math.sqrt(kept) * predict_x0(z, noise, schedule, step) + math.sqrt(1 - kept - sigma**2) * noise
    return z if fresh is None else z + sigma * fresh


def iddpm_step(z: Tensor, noise: Tensor, variance: Tensor, fresh: Tensor, schedule: Schedule, step: int) -> Tensor:
    """z at the next step, drawn with ``fresh`` unit noise; the last step draws none.

    ``variance`` is the model's, -1 for the lower bound of the log variance and 1 for the upper (Improved DDPM,
    equation 15).
    """
    mean = float(schedule.mean_of_x0[step]) * predict_x0(z, noise, schedule, step)
    mean = mean + float(schedule.mean_of_z[step]) * z
    if step == len(schedule.timesteps) - 1:
        return mean
    share = (variance + 1) / 2
    log = share * float(schedule.log_variance_high[step]) + (1 - share) * float(schedule.log_variance_low[step])
    return mean + torch.exp(0.5 * log) * fresh


def sample_diffusion(
    predict: Prediction,
    z: Tensor,
    config: SamplerConfig,
    noise: Noise | None = None,
    progress: Progress | None = None,
    start: int = 0,
) -> Tensor:
    """Denoise ``z`` [B, C, T, H, W] (unit Gaussian, any float dtype) to a latent of the same shape and dtype.

    ``noise`` is needed by iddpm, and by ddim whose eta is not 0, and is not asked at the last step;
    ``progress(done, steps)`` is called after each step. The first ``start`` steps are passed over: ``z`` is what they
    made.

    Raises ConfigError for rflow, for a sampler that lacks noise, and when a tensor has another shape than expected.
    """
    if config.name not in ("ddim", "iddpm"):
        raise ConfigError(f"SamplerConfig.name: expected 'ddim' or 'iddpm' here, got {config.name!r}; use sample")
    if config.draws_noise and noise is None:
        raise ConfigError(f"sampler {config.name}: expected noise for its steps, got none; pass noise")
    schedule = make_schedule(config.steps)
    channels = z.shape[1]
    for step, t in list(enumerate(schedule.timesteps.tolist()))[start:]:
        cond, uncond = predict(z, step, t)
        _check(cond, uncond, z, step)
        guided = guide_channels(cond.to(z.dtype), uncond.to(z.dtype), config.cfg_scale, config.guided)
        predicted, variance = guided[:, :channels], guided[:, channels:]
        fresh = torch.zeros_like(z)
        if config.draws_noise and noise is not None:
            fresh = _fresh(noise, z, step, config.steps)
        if config.name == "ddim":
            z = ddim_step(z, predicted, schedule, step, config.noise_share, fresh)
        else:
            z = iddpm_step(z, predicted, variance, fresh, schedule, step)
        if progress is not None:
            progress(step + 1, config.steps)
    return z


def model_prediction(model: NoiseModel, y: Tensor, mask: Tensor) -> Prediction:
    """STDiT as a Prediction: both CFG halves in one batch, the null half under the prompt's own mask.

    y [B, L, caption_channels], mask [B, L] bool.
    """
    both = torch.cat([y, model.null_caption(len(y)).to(y)])
    masks = torch.cat([mask, mask])

    @torch.no_grad()
    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        twice = torch.cat([z, z]).to(y.dtype)
        cond, uncond = model(twice, torch.full((len(twice),), t, dtype=torch.float32), both, masks).chunk(2)
        return cond, uncond

    return predict


def _fresh(noise: Noise, z: Tensor, step: int, steps: int) -> Tensor:
    if step == steps - 1:
        return torch.zeros_like(z)
    fresh = noise(step)
    if fresh.shape != z.shape:
        raise ConfigError(f"noise at step {step}: expected {list(z.shape)}, got {list(fresh.shape)}; shape it like z")
    return fresh.to(z.dtype)


def _check(cond: Tensor, uncond: Tensor, z: Tensor, step: int) -> None:
    want = (z.shape[0], 2 * z.shape[1], *z.shape[2:])
    if cond.shape != want or uncond.shape != want:
        raise ConfigError(
            f"prediction at step {step}: expected two tensors of {list(want)}, got {list(cond.shape)} and "
            f"{list(uncond.shape)}; keep noise and variance"
        )
