"""Recipes x prompts x seeds, simulated: each pair's scores as a JSON line, resumable.

Pairs run in batches, and every recipe has a batch before the next one begins: whenever it is stopped, all recipes stand
at about the same number of pairs. A batch's lines are written together, when they are all there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.artifact import probe
from tvm_flow.calibrate import CalibrationPrompt, Denoising, Embed, model_sha256
from tvm_flow.calibrate.attended import Attended, measure_attended
from tvm_flow.calibrate.reach import Reach
from tvm_flow.calibrate.samples import Samples
from tvm_flow.errors import ConfigError, InterruptedCommand
from tvm_flow.model import AnyModel
from tvm_flow.quality.compiled import CompiledRecipe
from tvm_flow.quality.lines import Line, appending, read_lines
from tvm_flow.quality.scores import Viewer, psnr_to
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.affine import Corrections, fit_corrections
from tvm_flow.quantize.integer_scheme import IntegerModel, in_integers
from tvm_flow.quantize.prepare import Fitting, prepare
from tvm_flow.quantize.scheme import Scheme, make_scheme
from tvm_flow.quantize.simulated import simulated_outputs, simulating
from tvm_flow.quantize.simulated_attention import attending_in_int8, attention_codes
from tvm_flow.sampler import denoise, drawn_from, model_outputs

REFERENCE = "fp32"
MEASURED = "measured"
"""The field of a line that stands for the metrics which were asked for, and their weights."""


@dataclass(frozen=True)
class Pair:
    """A video: a prompt, and the seed of its noise, which is the same under every prompt."""

    prompt: str
    seed: int


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that recipes are tried on, and what they are fitted on; ``variant`` is plain or outliers.

    ``reach`` is there where a recipe's blocks are in integers.
    """

    variant: str
    denoising: Denoising
    embed: Embed
    samples: Samples
    calibrated_on: tuple[CalibrationPrompt, ...]
    reach: Reach | None = None

    def prepared(self, recipe: Recipe) -> Subject:
        """With the model and the samples that ``recipe`` is fitted in and on."""
        fitting = Fitting(self.denoising, self.calibrated_on, self.embed, self.samples)
        model, samples = prepare(fitting, recipe)
        return replace(self, denoising=replace(self.denoising, model=model), samples=samples)


@dataclass(frozen=True, eq=False)
class Trials:
    """What is to be tried: ``recipes`` by name, on ``pairs``, in batches of ``batch``, into the file ``output``.

    A ``compiled`` one is tried twice more: simulated and as its bundle, whose lines say how far it is from that
    (to_simulated_db). ``measured`` stands for what scores videos besides what always does, and its weights.
    """

    recipes: Mapping[str, Recipe]
    pairs: Sequence[Pair]
    batch: int
    output: Path
    compiled: CompiledRecipe | None = None
    measured: str = ""

    def keys(self, subject: Subject) -> dict[str, str]:
        """`trial_key` of everything that is tried, by name."""
        keys = {name: trial_key(subject, recipe) for name, recipe in self.recipes.items()}
        if (compiled := self.compiled) is not None:
            keys[compiled.simulated_name] = key = trial_key(subject, compiled.recipe)
            keys[compiled.compiled_name] = _joined(key, compiled.digest)
        return {name: _joined(key, self.measured) for name, key in keys.items()} if self.measured else keys

    def recipe(self, name: str) -> Recipe:
        return self.recipes[name] if self.compiled is None or name in self.recipes else self.compiled.recipe


@dataclass(frozen=True)
class Lacking:
    """A batch of pairs, and the keys by name of the recipes that lack some of them in the output."""

    batch: Sequence[Pair]
    keys: Mapping[str, str]


Shards = Callable[[Sequence[Lacking]], Generator[list[dict[str, object]]]]
"""The lines of each of some batches, whichever is finished first."""


def crossed(prompts: Sequence[str], seeds: Sequence[int]) -> list[Pair]:
    """Every prompt under every seed, seeds innermost; raises ConfigError for none."""
    if not prompts or not seeds:
        raise ConfigError(f"pairs: expected prompts and seeds, got {len(prompts)} and {len(seeds)}; give some")
    return [Pair(prompt, seed) for prompt in prompts for seed in seeds]


def run_trials(
    subject: Subject, trials: Trials, viewer: Viewer, progress: bool = True, shards: Shards | None = None
) -> int:
    """Score what ``trials.output`` lacks; returns how many videos were made. ``shards`` makes them where it is given,
    and the file gets the same lines, in the order in which they are finished.

    Raises ConfigError when another process writes the file, InterruptedCommand on Ctrl-C, with all finished batches
    kept.
    """
    probe(trials.output)
    subject.embed([pair.prompt for pair in trials.pairs])  # an unknown one fails before the work
    with appending(trials.output) as file:
        work = Work(subject, trials, viewer)
        there = {_identity(line) for line in read_lines(trials.output)}
        todo = [lacking for batch in _batches(trials) if (lacking := _lacking(batch, work.keys, there)).keys]
        total, added = sum(len(each.batch) * len(each.keys) for each in todo), 0
        here = (lines for each in todo for lines in work.of(each))
        with tqdm(total=total, desc=f"evaluate {subject.variant}", unit="video", disable=not progress) as bar:
            try:
                with closing(here if shards is None else shards(todo)) as found:
                    for lines in found:
                        file.append([line for line in lines if _identity(line) not in there])
                        added += len(lines)
                        bar.update(len(lines))
            except KeyboardInterrupt:
                raise InterruptedCommand(
                    f"evaluate: interrupted after {added} of {total} videos; {trials.output} holds them; run the same "
                    "command again to go on"
                ) from None
    return added


def trial_key(subject: Subject, recipe: Recipe) -> str:
    """Digest of all that a pair's scores depend on but the pair."""
    content = {
        "model": model_sha256(subject.denoising.model),
        "sampler": subject.denoising.sampler.to_dict(),
        "latent": list(subject.denoising.latent),
        "variant": subject.variant,
        "recipe": recipe.to_dict(),
        "calibrated_on": [asdict(prompt) for prompt in subject.calibrated_on],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(eq=False)
class Work:
    """Makes and scores videos of ``subject``; what a recipe needs is fitted once, when its first video is made."""

    subject: Subject
    trials: Trials
    viewer: Viewer
    schemes: dict[str, tuple[AnyModel, Scheme]] = field(default_factory=dict)
    attended: dict[str, Attended] = field(default_factory=dict)
    corrections: dict[str, Corrections] = field(default_factory=dict)

    @cached_property
    def keys(self) -> dict[str, str]:
        """See `Trials.keys`."""
        return self.trials.keys(self.subject)

    def of(self, lacking: Lacking) -> Iterator[list[dict[str, object]]]:
        """The lines of each of its recipes."""
        exact = self.exact(lacking.batch)
        for name in lacking.keys:
            yield self.lines(lacking.batch, exact, name)

    def exact(self, batch: Sequence[Pair]) -> Tensor:
        """FP32's latents."""
        denoising = self.subject.denoising
        outputs = model_outputs(denoising.model, *self.subject.embed([p.prompt for p in batch]), denoising.sampler)
        return denoise(outputs, self._noise(batch, 0), denoising.sampler, lambda step: self._noise(batch, step + 1))

    def lines(self, batch: Sequence[Pair], exact: Tensor, name: str) -> list[dict[str, object]]:
        latents, scheme = self._latents(batch, name, exact)
        more: list[dict[str, float]] = [{} for _ in batch]
        if (compiled := self.trials.compiled) is not None and name == compiled.compiled_name:
            simulated, seeds = latents, [pair.seed for pair in batch]
            latents = compiled.generate([pair.prompt for pair in batch], self._noise(batch, 0), seeds)
            more = [{"to_simulated_db": float(db)} for db in psnr_to(latents, simulated)]
        scores = self.viewer.scores(latents, exact, [pair.prompt for pair in batch])
        head = {
            "key": self.keys[name],
            "recipe": name,
            "model": self.subject.variant,
            "bytes_per_step": scheme.bytes_per_step,
        }
        head |= {"groups": [int(group) for group in scheme.groups]}
        head |= {MEASURED: self.trials.measured[:16]} if self.trials.measured else {}
        rows = zip(batch, scores, more, strict=True)
        return [{**head, **asdict(pair), **row, **near} for pair, row, near in rows]

    def _latents(self, batch: Sequence[Pair], name: str, exact: Tensor) -> tuple[Tensor, Scheme]:
        denoising, recipe = self.subject.denoising, self.trials.recipe(name)
        if name not in self.schemes:
            subject = self.subject.prepared(recipe)
            self.schemes[name] = subject.denoising.model, make_scheme(subject.denoising.model, recipe, subject.samples)
            if recipe.attention == "int8":
                self.attended[name] = measure_attended(subject.denoising, subject.calibrated_on, subject.embed)
            if recipe.fit.sampler == "affine":
                of = subject.denoising, self.schemes[name][1].layers, subject.calibrated_on, subject.embed
                self.corrections[name] = fit_corrections(*of)
        model, scheme = self.schemes[name]
        if recipe.method == "float32":
            return exact, scheme
        caption = self.subject.embed([pair.prompt for pair in batch])
        with torch.no_grad(), simulating(model, scheme.layers) as clock, ExitStack() as stack:
            if recipe.between == "integer":
                assert self.subject.reach is not None
                integers = IntegerModel(scheme.layers, self.subject.reach)
                stack.enter_context(in_integers(model, integers, clock))
            if recipe.attention == "int8":
                codes = attention_codes(self.attended[name], scheme.groups, recipe.branches == "shared")
                stack.enter_context(attending_in_int8(model, codes, clock))
            outputs = simulated_outputs(model, clock, caption, denoising.sampler)
            if name in self.corrections:
                outputs = self.corrections[name].of(outputs)
            noise = self._noise(batch, 0)
            return denoise(outputs, noise, denoising.sampler, lambda step: self._noise(batch, step + 1)), scheme

    def _noise(self, batch: Sequence[Pair], stream: int) -> Tensor:
        """What a trajectory starts from (stream 0), or what its step ``stream`` - 1 draws: [N, C, T, H, W]."""
        latent = self.subject.denoising.latent
        if stream:
            return torch.cat([drawn_from(pair.seed, latent)(stream - 1) for pair in batch])
        starts = [torch.randn(latent, generator=torch.Generator().manual_seed(pair.seed)) for pair in batch]
        return torch.stack(starts)


def _joined(key: str, digest: str) -> str:
    return hashlib.sha256(f"{key} {digest}".encode()).hexdigest()[:16]


def _lacking(batch: Sequence[Pair], keys: Mapping[str, str], there: Collection[object]) -> Lacking:
    lacks = {n: key for n, key in keys.items() if any((key, pair.prompt, pair.seed) not in there for pair in batch)}
    return Lacking(batch, lacks)


def _identity(line: Line) -> tuple[object, object, object]:
    return line.get("key"), line.get("prompt"), line.get("seed")


def _batches(trials: Trials) -> Iterator[list[Pair]]:
    for start in range(0, len(trials.pairs), trials.batch):
        yield list(trials.pairs[start : start + trials.batch])
