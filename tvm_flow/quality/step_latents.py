"""The latents after each step, of a float model and of its bundle, from the same noise: where quantization tells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvm_flow.model import AnyModel
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import Prompt
from tvm_flow.run import Bundle
from tvm_flow.sampler import Guidance, SamplerConfig, denoise, drawn_from, model_outputs, next_latent, seeded_noise
from tvm_flow.sampler.update import SIGMA

Floats = NDArray[np.float32]


def float_latents_of_steps(
    model: AnyModel,
    sampler: SamplerConfig,
    caption: tuple[Tensor, Tensor],
    noise: Floats,
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> Floats:
    """float32 [steps, C, T, H, W] from ``noise`` [C, T, H, W]; ``caption`` is tokens [1, L, D] and mask [1, L].

    What steps draw is what the C runtime draws for ``seed``. ``advance`` is called after each step.
    """
    outputs = model_outputs(model, *caption, sampler)
    before: list[Tensor] = []

    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        before.append(z)
        return outputs(z, step, t)

    def progress(_done: int, _steps: int) -> None:
        advance()

    end = denoise(predict, torch.from_numpy(noise)[None], sampler, drawn_from(seed, noise.shape), progress)
    return torch.cat([*before[1:], end]).numpy()


def bundle_latents_of_steps(
    bundle: Bundle,
    prompts: tuple[Prompt, Prompt],
    noise: Floats,
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> Floats:
    """The same of a bundle, for both branches' ``prompts``; the last is what `Bundle.generate` gives, bit for bit."""
    info, z, after = bundle.info, noise, []
    guidance = Guidance(info.cfg_scale, info.guided_channels)
    for step, row in enumerate(np.array(info.updates)):
        both = tuple(bundle.velocity(step, branch, z, prompts[branch]) for branch in range(info.branches))
        z = next_latent(z, both, row, guidance, seeded_noise(seed, step + 1, noise.shape) if row[SIGMA] else None)
        after.append(z)
        advance()
    return np.stack(after)


def psnr_of_steps(exact: Floats, ours: Floats) -> list[float]:
    """dB after each step of ``ours`` [N, S, ...] against ``exact`` [N, S' >= S, ...], over all N together."""
    return [psnr_db(exact[:, step], ours[:, step]) for step in range(ours.shape[1])]
