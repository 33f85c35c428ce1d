"""A step's correction after guidance: least squares, and the same in outputs and in the update's constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate.samples import Samples
from tvm_flow.errors import ConfigError, SamplerMismatchError
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.affine import Corrections, fit_corrections
from tvm_flow.quantize.build import quantize
from tvm_flow.quantize.file import load_quantized
from tvm_flow.quantize.prepare import Fitting
from tvm_flow.quantize.recipe_parts import Fit, Widths
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import simulated_outputs, simulating
from tvm_flow.sampler import (
    Guidance,
    SamplerConfig,
    denoise,
    model_outputs,
    next_latent,
    require_tables_of,
    step_updates,
)

FEW_BITS = Recipe(widths=Widths(4, 4))


@pytest.mark.parametrize("name", ["rflow", "ddim"])
def test_corrected_constants_do_what_corrected_outputs_do(name: str) -> None:
    """Two steps by `next_latent` with corrected rows, and by a sampler's own loop with corrected outputs."""
    sizes = {"steps": 2, "cfg_scale": 3.0, "fps": 8.0, "frames": 1, "height": 8, "width": 8}
    sampler, rng = SamplerConfig(name=name, **sizes), torch.Generator().manual_seed(0)
    corrections = Corrections(np.array([[1.1, -0.2], [0.9, 0.3]]))
    outputs = torch.randn(2, 2, 1, 8, 1, 2, 2, generator=rng)  # step, branch, [1, 2 C, T, h, w]
    z = torch.randn(1, 4, 1, 2, 2, generator=rng)
    corrected = corrections.of(lambda z, step, t: (outputs[step, 0], outputs[step, 1]))  # noqa: ARG005
    expected = denoise(corrected, z.double(), sampler)
    guidance, found = Guidance(3.0, sampler.guided_of(4)), z[0].numpy()
    for step, row in enumerate(corrections.updates(step_updates(sampler))):
        branches = tuple(outputs[step, branch, 0, :4].numpy() for branch in (0, 1))
        found = next_latent(found, branches, row, guidance)
    # Each step rounds to float32 once; of ddim's two steps the constants are some tens, and the latent some hundreds.
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_what_the_fit_leaves_is_at_right_angles_to_prediction_and_latent(fitting: Fitting, samples: Samples) -> None:
    """The condition of least squares, at the first step, whose latents are the noise itself."""
    denoising, prompts = fitting.denoising, fitting.prompts
    model, sampler = denoising.model, denoising.sampler
    layers = make_scheme(model, FEW_BITS, samples).layers
    a, b = fit_corrections(denoising, layers, prompts, fitting.embed).pairs[0]
    seeds = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    z = torch.stack([torch.randn(denoising.latent, generator=each) for each in seeds])
    caption, t = fitting.embed([prompt.text for prompt in prompts]), float(sampler.timesteps()[0])
    exact = guided(model_outputs(model, *caption, sampler)(z, 0, t), sampler)
    with torch.no_grad(), simulating(model, layers) as clock:
        ours = guided(simulated_outputs(model, clock, caption, sampler)(z, 0, t), sampler)
    left = (exact - a * ours - b * z).double()
    for each in (ours, z):
        # Sums of a few hundred float32 outputs, which other batch sizes round otherwise.
        assert abs(float((left * each).sum())) < 1e-4 * float(left.norm() * each.norm())
    assert float(left.norm()) < float((exact - ours).norm())


def guided(outputs: tuple[Tensor, Tensor], sampler: SamplerConfig) -> Tensor:
    cond, uncond = (each[:, :4] for each in outputs)
    return uncond + sampler.cfg_scale * (cond - uncond)


def test_quantize_writes_the_corrected_constants_which_a_compile_takes_by_their_recipe(
    fitting: Fitting, ranges_path: Path, tmp_path: Path
) -> None:
    recipe, sampler = tmp_path / "recipe.yaml", fitting.denoising.sampler
    recipe.write_text("fit: {sampler: affine}\n")
    made = quantize(fitting.denoising.model, ranges_path, recipe, tmp_path / "q.safetensors", fitting.embed, False)
    rows, plain = load_quantized(tmp_path / "q.safetensors").updates, step_updates(sampler)
    np.testing.assert_array_equal(rows, made.updates)
    assert (rows[:, :2] != plain[:, :2]).any() and (rows[:, 2:] == plain[:, 2:]).all()
    require_tables_of("q", sampler, made.timesteps, rows, corrected=True)
    with pytest.raises(SamplerMismatchError, match="q: step 0: expected a timestep and an update of the sampler"):
        require_tables_of("q", sampler, made.timesteps, rows)
    rows[1, 0] = np.inf
    with pytest.raises(SamplerMismatchError, match="q: step 1: expected"):
        require_tables_of("q", sampler, made.timesteps, rows, corrected=True)


def test_what_the_fit_would_not_see_is_refused() -> None:
    for more in ({"attention": "int8"}, {"between": "integer"}):
        with pytest.raises(ConfigError, match=r"fit\.sampler: expected none with attention or between in integers"):
            Recipe.from_dict({"fit": {"sampler": "affine"}, **more})
    assert "sampler" not in Recipe(fit=Fit(clip="mse")).to_dict()["fit"], "older files keep their keys"
