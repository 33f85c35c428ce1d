"""What a recipe is fitted in and on: the model, rotated or as it is, and samples of its linears' inputs.

Fitted on its own inputs, a recipe is fitted twice: first on those of the float model, then on what the linears of the
quantized model see, step after step from the latents that its own steps made. So a step's tables know the errors of
the steps and layers before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tvm_flow.calibrate import CalibrationPrompt, Denoising, Embed
from tvm_flow.calibrate.samples import ROWS, Samples, sample_inputs
from tvm_flow.model import AnyModel
from tvm_flow.quantize.recipe import Recipe
from tvm_flow.quantize.rotation import with_rotated_heads
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import simulating


@dataclass(frozen=True, eq=False)
class Fitting:
    """The model, sampler and latent of a trajectory, the prompts to follow, and samples of the inputs on it, if any."""

    denoising: Denoising
    prompts: Sequence[CalibrationPrompt]
    embed: Embed
    samples: Samples | None = None


def rotated(model: AnyModel, recipe: Recipe) -> AnyModel:
    """The model in which ``recipe`` is fitted: ``model``, or a copy with rotated heads."""
    return with_rotated_heads(model) if recipe.fit.rotation == "heads" else model


def prepare(fitting: Fitting, recipe: Recipe, progress: bool = False) -> tuple[AnyModel, Samples]:
    """`rotated`, and samples of its inputs; those of ``fitting`` where they are what ``recipe`` is fitted on.

    Raises as `sample_inputs` and `make_scheme`.
    """
    model = rotated(fitting.denoising.model, recipe)
    denoising = replace(fitting.denoising, model=model)
    samples = fitting.samples if model is fitting.denoising.model else None
    if samples is None:
        samples = sample_inputs(denoising, fitting.prompts, fitting.embed, ROWS, progress)
    if recipe.fit.inputs == "quantized" and recipe.method in ("static", "dynamic"):
        layers = make_scheme(model, recipe, samples).layers
        with torch.no_grad(), simulating(model, layers) as clock:
            samples = sample_inputs(denoising, fitting.prompts, fitting.embed, ROWS, progress, clock)
    return model, samples
