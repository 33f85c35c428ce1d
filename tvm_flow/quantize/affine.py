"""A correction of each step after guidance, which the sampler's own update takes up: free at run time.

The quantized model's guided prediction e is held against the float model's, f, at the same latent z; over all
calibration prompts, by least squares,

    f ~ a e + b z

step after step, along the trajectories that the quantized and corrected steps before made (the idea of PTQD, arXiv
2305.10657, with the latent's share in place of drawn noise). With the update of `tvm_flow.sampler.update`

    z' = of_z z + of_prediction (a e + b z) + spread fresh
       = (of_z + of_prediction b) z + (of_prediction a) e + spread fresh

a step's row of constants holds it: no operation and no byte more. Guidance is linear, so correcting both branches by
the same a and b corrects what is guided; where a model puts out a variance, that stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvm_flow.calibrate import CalibrationPrompt, Denoising, Embed
from tvm_flow.errors import CalibrationError
from tvm_flow.numerics.thread_count import forward_threads, thread_count
from tvm_flow.quantize.simulated import AnyLayer, simulating
from tvm_flow.sampler import SamplerConfig, Velocity, denoise, drawn_from, guide_channels, model_outputs
from tvm_flow.sampler.update import OF_PREDICTION, OF_Z

Doubles = NDArray[np.float64]
Branches = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Corrections:
    """float64 [steps, 2]: a, of the prediction, and b, of the latent, of each step."""

    pairs: Doubles

    def updates(self, rows: Doubles) -> Doubles:
        """The rows of `step_updates` that hold these corrections."""
        corrected = rows.copy()
        corrected[:, OF_Z] += rows[:, OF_PREDICTION] * self.pairs[:, 1]
        corrected[:, OF_PREDICTION] *= self.pairs[:, 0]
        return corrected

    def of(self, outputs: Velocity) -> Velocity:
        """``outputs`` with the same effect, for a sampler that has its own rows."""

        def corrected(z: Tensor, step: int, t: float) -> Branches:
            cond, uncond = outputs(z, step, t)
            return _corrected(cond, z, self.pairs[step]), _corrected(uncond, z, self.pairs[step])

        return corrected


def fit_corrections(
    denoising: Denoising, layers: Mapping[str, AnyLayer], prompts: Sequence[CalibrationPrompt], embed: Embed
) -> Corrections:
    """Of ``denoising.model`` with its linears ``layers`` simulated; raises CalibrationError for what is not finite."""
    model, sampler, found = denoising.model, denoising.sampler, list[Doubles]()
    captions = [embed([prompt.text]) for prompt in prompts]

    def predict(z: Tensor, step: int, t: float) -> Branches:
        exact = _outputs(denoising, captions, z, step, t)
        with simulating(model, layers) as clock:
            clock.step = step
            ours = _outputs(denoising, captions, z, step, t)
        found.append(_pair(_guided(ours, z, sampler), z, _guided(exact, z, sampler), step))
        return _corrected(ours[0], z, found[-1]), _corrected(ours[1], z, found[-1])

    def fresh(step: int) -> Tensor:
        return torch.cat([drawn_from(prompt.seed, denoising.latent)(step) for prompt in prompts])

    seeded = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    noise = torch.stack([torch.randn(denoising.latent, generator=each) for each in seeded])
    with torch.no_grad(), thread_count(forward_threads(model)):
        denoise(predict, noise, sampler, fresh)
    return Corrections(np.stack(found))


def _outputs(denoising: Denoising, captions: Sequence[Branches], z: Tensor, step: int, t: float) -> Branches:
    """Both branches of all prompts, one at a time so that memory does not grow with their number."""
    made = [
        model_outputs(denoising.model, *caption, denoising.sampler)(one[None], step, t)
        for caption, one in zip(captions, z, strict=True)
    ]
    cond, uncond = (torch.cat(halves) for halves in zip(*made, strict=True))
    return cond, uncond


def _guided(outputs: Branches, z: Tensor, sampler: SamplerConfig) -> Tensor:
    channels = z.shape[1]
    cond, uncond = (each[:, :channels] for each in outputs)
    return guide_channels(cond, uncond, sampler.cfg_scale, sampler.guided_of(channels))


def _corrected(output: Tensor, z: Tensor, pair: Doubles) -> Tensor:
    channels = z.shape[1]
    return torch.cat([float(pair[0]) * output[:, :channels] + float(pair[1]) * z, output[:, channels:]], dim=1)


def _pair(e: Tensor, z: Tensor, f: Tensor, step: int) -> Doubles:
    """a and b by the normal equations in double; of e and z that are parallel the shortest."""
    seen = torch.stack([e.flatten(), z.flatten()]).double()
    gram, right = (seen @ seen.T).numpy(), (seen @ f.flatten().double()).numpy()
    if not (np.isfinite(gram).all() and np.isfinite(right).all()):
        raise CalibrationError(f"step {step}: expected finite predictions, got NaN or an infinity; check the model")
    return np.asarray(np.linalg.lstsq(gram, right, rcond=None)[0])
