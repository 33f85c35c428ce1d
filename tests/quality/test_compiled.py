"""A fitted recipe as a bundle: checked bit for bit as it is compiled, and close to what was simulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.tiny_fixtures import Compiler
from support.tiny_model import LATENT, LENGTHS, SAMPLER, embed, make_model
from torch import Tensor

from tvm_flow.backends.cpu.isa import registered_isas
from tvm_flow.calibrate import CalibrationPrompt, Denoising
from tvm_flow.calibrate.samples import ROWS, sample_inputs
from tvm_flow.errors import ConfigError
from tvm_flow.pack.index import read_index
from tvm_flow.pipeline.generate import Generation, generate_latents
from tvm_flow.quality.compiled import CompiledRecipe, compiled_recipe
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.scores import Viewer
from tvm_flow.quality.standings import verdicts
from tvm_flow.quality.trials import Subject, Trials, crossed, run_trials

NARROW = tuple(isa.with_narrow_weights().name for isa in registered_isas())
PROMPTS = tuple(CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS))


@pytest.fixture(scope="module")
def bundle(compiler: Compiler) -> Path:
    """Int4 weights, two in a byte; one group, a bias and a center for each branch."""
    compiled = compiler("quality/static-free-w4a8-g1", "host")
    assert any(line.partition(": ")[2].startswith(NARROW) for line in compiled.kernels)
    return compiled.bundle


def recipe_of(bundle: Path) -> CompiledRecipe:
    def generate(prompts: Sequence[str], noise: Tensor, seeds: Sequence[int]) -> Tensor:
        how = Generation(threads=1, seeds=seeds)
        return torch.from_numpy(generate_latents(bundle, prompts, noise.numpy(), embed, how, progress=False))

    return compiled_recipe(bundle, SAMPLER.steps, generate)


def test_a_bundle_is_nearer_to_its_simulation_than_either_is_to_fp32(bundle: Path, tmp_path: Path) -> None:
    denoising = Denoising(make_model(), SAMPLER, LATENT)
    samples = sample_inputs(denoising, PROMPTS, embed, ROWS, progress=False)
    subject = Subject("plain", denoising, embed, samples, PROMPTS)
    trials = Trials({}, crossed(list(LENGTHS), [5, 6]), 4, tmp_path / "lines.jsonl", recipe_of(bundle))
    assert run_trials(subject, trials, Viewer(), progress=False) == 8
    assert run_trials(subject, trials, Viewer(), progress=False) == 0
    simulated, compiled = verdicts(read_lines(trials.output))
    assert (simulated.recipe, compiled.recipe) == (f"{bundle.name} simulated", f"{bundle.name} compiled")
    between = [row["to_simulated_db"] for row in compiled.rows.values()]
    assert min(between) > 6 + max(row["latent_psnr_db"] for rows in (simulated, compiled) for row in rows.rows.values())


def test_one_group_keeps_the_values_of_each_branch_once(bundle: Path) -> None:
    index = read_index(bundle / "steps.bin")
    assert index.values.size == 2 * index.libraries[0].variant_floats
    assert len({first for _, first in index.variants}) == 2


def test_a_bundle_of_fewer_steps_is_refused(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="expected a bundle of all 20 steps, got 3; export all of them"):
        compiled_recipe(bundle, 20, lambda _prompts, noise, _seeds: noise)
