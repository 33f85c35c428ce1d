"""The evaluate command: recipes tried on a model, plain or with outliers inserted, into a file of JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tvm_flow.artifact import exclusive, probe, write_bytes
from tvm_flow.calibrate import CalibrationPrompt, Denoising, Ranges, load_prompts, model_sha256
from tvm_flow.calibrate.reach import measure_reach
from tvm_flow.calibrate.samples import ROWS, Samples, sample_inputs
from tvm_flow.demo.vae import VAE
from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.asked import require_bundle_of
from tvm_flow.pipeline.generate import Generation, generate_latents
from tvm_flow.pipeline.source import Source
from tvm_flow.quality.budget import Budget
from tvm_flow.quality.compiled import CompiledRecipe, compiled_recipe
from tvm_flow.quality.field_metrics import AskedMetric, load_metrics
from tvm_flow.quality.judge import load_judge
from tvm_flow.quality.mixed_recipe import mixed_text
from tvm_flow.quality.mixing import Mixed, mix
from tvm_flow.quality.outliers import load_outliers, with_outliers
from tvm_flow.quality.scores import Viewer
from tvm_flow.quality.sensitivity import load_sensitivity, measure_sensitivity, save_sensitivity
from tvm_flow.quality.trials import REFERENCE, Pair, Shards, Subject, Trials, Work, run_trials
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.named_recipes import find_recipe

BATCH = 12
"""Videos at a time: 1.25 s of an idle core each, where 1 takes 1.7 s and 16 take 1.4 (demo model, 2026-11-26)."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to try: ``recipes`` by name or file on ``pairs``, fitted on the prompt set ``calibration``.

    With ``outliers``, a YAML file of `tvm_flow.quality.outliers`, on the model with these inserted. A ``bundle`` is
    tried beside the recipe that it was quantized by. ``metrics`` score frames besides what always does.
    """

    recipes: tuple[str, ...]
    pairs: tuple[Pair, ...]
    calibration: Path
    output: Path
    outliers: Path | None = None
    batch: int = BATCH
    bundle: Path | None = None
    metrics: tuple[AskedMetric, ...] = ()


def evaluate_stage(
    source: Source, request: EvaluationRequest, progress: bool = True, shards: Shards | None = None
) -> int:
    """Score what the output lacks, here or by ``shards``; returns how many videos were made.

    Raises ConfigError for a recipe or file that is not there or fits no layer, PromptError for an unknown prompt, and
    what `run_trials` raises.
    """
    work = make_work(source, request, progress)
    return run_trials(work.subject, work.trials, work.viewer, progress, shards)


def make_work(source: Source, request: EvaluationRequest, progress: bool) -> Work:
    """What the request tries, ready to make any of its videos; raises as `evaluate_stage`."""
    viewer = _viewer(source, request.metrics)
    recipes = {REFERENCE: find_recipe(REFERENCE)} | {name: find_recipe(name) for name in request.recipes}
    compiled = None if request.bundle is None else _compiled(source, request)
    subject = make_subject(source, request, progress, () if compiled is None else (compiled.recipe,))
    trials = Trials(recipes, request.pairs, request.batch, request.output, compiled, viewer.metrics.digest)
    return Work(subject, trials, viewer)


def _viewer(source: Source, asked: Sequence[AskedMetric]) -> Viewer:
    """The demo's decoder draws what the judge knows; without any decoder latents are compared as they are."""
    decoder, frames = source.decoder, source.sampler.frames
    if decoder is None:
        if asked:
            raise ConfigError(
                f"metric {asked[0].name}: expected a model whose latents become frames, got one without a decoder; "
                "give --autoencoder FOLDER"
            )
        return Viewer()
    metrics = load_metrics(asked)
    if isinstance(decoder, VAE):
        return Viewer(decoder.decode, load_judge(), metrics)
    return Viewer(lambda latents: decoder.decode(latents, frames), metrics=metrics)


def _compiled(source: Source, request: EvaluationRequest) -> CompiledRecipe:
    """The request's bundle, of ``source`` itself."""
    bundle = request.bundle
    assert bundle is not None
    if request.outliers is not None:
        raise ConfigError(f"{bundle}: expected no outliers beside a bundle, whose model has none; leave one out")
    require_bundle_of(bundle, source)

    def generate(prompts: Sequence[str], noise: Tensor, seeds: Sequence[int]) -> Tensor:
        how = Generation(threads=1, seeds=seeds)
        return torch.from_numpy(generate_latents(bundle, prompts, noise.numpy(), source.embed, how, progress=False))

    return compiled_recipe(bundle, source.sampler.steps, generate)


def sensitivity_stage(source: Source, request: EvaluationRequest, windows: int, progress: bool = True) -> None:
    """Write what each layer costs in each of ``windows`` parts of the trajectory, by the request's first recipe.

    Raises as `evaluate_stage`.
    """
    name = request.recipes[0]
    recipe = find_recipe(name)
    with exclusive(request.output):
        probe(request.output)
        subject = make_subject(source, request, progress).prepared(recipe)
        save_sensitivity(request.output, measure_sensitivity(subject, (name, recipe), request.pairs, windows, progress))


def mix_stage(
    source: Source, request: EvaluationRequest, sensitivity: Path, budget: Budget, progress: bool = True
) -> Mixed:
    """Write the request's first recipe with what ``budget`` allows kept, by the file ``sensitivity``; return the same.

    Raises as `evaluate_stage`, and ConfigError for effects that are another recipe's.
    """
    name = request.recipes[0]
    recipe, found = find_recipe(name), load_sensitivity(sensitivity)
    if found.recipe != name:
        raise ConfigError(f"{sensitivity}: expected effects of {name}, got those of {found.recipe}; measure them anew")
    with exclusive(request.output):
        probe(request.output)
        subject = make_subject(source, request, progress).prepared(recipe)
        mixed = mix(subject, recipe, found, request.pairs, budget, progress)
        write_bytes(request.output, mixed_text(mixed, name, budget).encode())
    return mixed


def make_subject(source: Source, request: EvaluationRequest, progress: bool, more: Sequence[Recipe] = ()) -> Subject:
    """The model, plain or with the request's outliers, and samples of its linears' inputs, with what else the
    request's recipes and ``more`` of them need.
    """
    prompts = load_prompts(request.calibration)
    plain = Denoising(source.model, source.sampler, source.latent)
    samples = sample_inputs(plain, prompts, source.embed, ROWS, progress)
    variant, denoising = "plain", plain
    if request.outliers is not None:
        ranges = _ranges(plain, samples, prompts)
        changed = with_outliers(source.model, ranges, load_outliers(request.outliers))
        variant, denoising = "outliers", replace(plain, model=changed)
        samples = sample_inputs(denoising, prompts, source.embed, ROWS, progress)
    recipes = [*map(find_recipe, request.recipes), *more]
    integer = any(recipe.between == "integer" for recipe in recipes)
    reach = measure_reach(denoising, prompts, source.embed, progress) if integer else None
    return Subject(variant, denoising, source.embed, samples, prompts, reach)


def _ranges(denoising: Denoising, samples: Samples, prompts: tuple[CalibrationPrompt, ...]) -> Ranges:
    layers = {name: layer.ranges() for name, layer in samples.items()}
    return Ranges(model_sha256(denoising.model), denoising.sampler, denoising.latent, prompts, layers)
