"""Mixed precision by measurement: which layers, at which steps, are worth more than a recipe gives them.

1. Candidates are the layers of a `Sensitivity`, in each of its windows where the budget is multiply-adds. Where it is
   bytes alone they are whole layers, since the first window already brings the float weights; what is made once a
   prompt is a whole layer, too.
2. The next candidate is the one whose squared effect on the final latent is greatest for its share of the budget.
3. It stays if the final latents, measured with all that was kept before, come nearer to FP32's: effects order what is
   tried and are never added up to a result. ``PATIENCE`` candidates in a row that do not help end the search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from tqdm import tqdm

from tvm_flow.calibrate import layer_names
from tvm_flow.errors import ConfigError
from tvm_flow.quality.budget import Budget, Candidate, Cost, Precision, Sizes
from tvm_flow.quality.scores import psnr_to
from tvm_flow.quality.sensitivity import Sensitivity, float_latents, quantized_latents
from tvm_flow.quality.trials import Pair, Subject
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.fold import TIMELESS_KINDS
from tvm_flow.quantize.recipe import KeepFloat
from tvm_flow.quantize.recipe_parts import MOST_BITS, Override
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import AnyLayer, SimulatedLayer

PATIENCE = 3


@dataclass(frozen=True)
class Choice:
    """A candidate that was kept: what all kept cost by then, and the final latents' PSNR with them, in dB."""

    candidate: Candidate
    cost: Cost
    psnr_db: float


@dataclass(frozen=True)
class Mixed:
    """What came out; ``psnr_db`` is that of the recipe it began with, ``tried`` how many candidates were measured."""

    recipe: Recipe
    pairs: int
    psnr_db: float
    choices: tuple[Choice, ...]
    tried: int


def mix(
    subject: Subject, recipe: Recipe, found: Sensitivity, pairs: Sequence[Pair], budget: Budget, progress: bool = True
) -> Mixed:
    """Of ``recipe``, whose layers' effects are ``found``, the mixture that ``budget`` allows, measured over ``pairs``.

    Raises ConfigError for effects of other layers or steps, and for a recipe that quantizes nothing.
    """
    _check(subject, recipe, found, budget)
    sizes, steps = Sizes.of(subject, recipe), subject.denoising.sampler.steps
    layers = dict(make_scheme(subject.denoising.model, recipe, subject.samples).layers)
    wider = _in_int8(subject, recipe) if budget.to == "int8" else {}
    starts, exact = float_latents(subject, pairs)

    def measured(layers: Mapping[str, AnyLayer]) -> float:
        return float(psnr_to(quantized_latents(subject, pairs, starts[0], layers), exact).mean())

    best = first = measured(layers)
    kept: list[Choice] = []
    left, missed, tried = candidates(recipe, found, budget, steps), 0, 0
    with tqdm(desc="mix", unit="run", disable=not progress) as bar:
        while left and missed < PATIENCE:
            chosen = [choice.candidate for choice in kept]
            spent = sizes.cost(chosen, budget.to)
            costs = [sizes.cost([*chosen, each], budget.to) for each in left]
            values = [_value(each, spent, cost, budget) for each, cost in zip(left, costs, strict=True)]
            index = int(np.argmax(values))
            if values[index] < 0:
                break  # nothing fits
            each, cost = left.pop(index), costs[index]
            changed = layers | {each.layer: _kept(layers[each.layer], each, wider, steps)}
            now, tried = measured(changed), tried + 1
            bar.update()
            bar.set_postfix(kept=len(kept), dB=f"{max(best, now):.2f}")
            if now > best:
                best, layers, missed = now, changed, 0
                kept.append(Choice(each, cost, now))
            else:
                missed += 1
    return Mixed(_recipe(recipe, kept, budget.to), len(pairs), first, tuple(kept), tried)


def candidates(recipe: Recipe, found: Sensitivity, budget: Budget, steps: int) -> list[Candidate]:
    """What may be kept; layers that already have as much as they would get are none."""
    listed: list[Candidate] = []
    for layer, effects in zip(found.layers, found.errors, strict=True):
        timeless = layer.endswith(TIMELESS_KINDS)
        if budget.to == "int8" and recipe.bits(layer, 0).weights == MOST_BITS:
            continue
        if recipe.float_steps(layer, steps).all():
            continue
        if budget.whole_layers or timeless or len(found.windows) == 1:
            # The error of what is made once a prompt is the same at every step; those of others count as independent.
            whole = sum(effects) if timeless else sqrt(sum(effect * effect for effect in effects))
            listed.append(Candidate(layer, None, whole))
        else:
            listed += [Candidate(layer, *each) for each in zip(found.windows, effects, strict=True)]
    return listed


def _value(candidate: Candidate, spent: Cost, cost: Cost, budget: Budget) -> float:
    """Squared effect for each share of the budget; -1 where it does not fit."""
    share = budget.share(cost)
    return candidate.effect**2 / max(share - budget.share(spent), 1e-9) if share <= 1 else -1.0


def _in_int8(subject: Subject, recipe: Recipe) -> Mapping[str, AnyLayer]:
    wide = replace(recipe, overrides=(*recipe.overrides, Override("*", weights=MOST_BITS)))
    return make_scheme(subject.denoising.model, wide, subject.samples).layers


def _kept(layer: AnyLayer, candidate: Candidate, wider: Mapping[str, AnyLayer], steps: int) -> AnyLayer:
    if wider:
        return wider[candidate.layer]
    assert isinstance(layer, SimulatedLayer)
    first, last = candidate.steps or (0, steps - 1)
    return replace(layer, float_steps=layer.float_steps | set(range(first, last + 1)))


def _recipe(recipe: Recipe, kept: Sequence[Choice], to: Precision) -> Recipe:
    chosen = [choice.candidate for choice in kept]
    if to == "int8":
        rules = (Override(each.layer, weights=MOST_BITS) for each in chosen)
        return replace(recipe, overrides=(*recipe.overrides, *rules))
    floats = (KeepFloat(each.layer, each.steps) for each in chosen)
    return replace(recipe, keep_float=(*recipe.keep_float, *floats))


def _check(subject: Subject, recipe: Recipe, found: Sensitivity, budget: Budget) -> None:
    if recipe.method not in ("static", "dynamic") or recipe.between != "float" or recipe.attention != "float":
        raise ConfigError(
            f"recipe: expected one with quantized linears between floats, got method {recipe.method}, between "
            f"{recipe.between} and attention {recipe.attention}; name another"
        )
    names, steps = layer_names(subject.denoising.model.config), subject.denoising.sampler.steps
    measured = found.windows[-1][1] + 1 if found.windows else 0
    if set(found.layers) != set(names) or measured != steps:
        raise ConfigError(
            f"sensitivity: expected the {len(names)} layers of this model over {steps} steps, got {len(found.layers)} "
            f"over {measured}; measure it again"
        )
    if budget.to == "int8" and not any(recipe.bits(name, 0).weights < MOST_BITS for name in names):
        raise ConfigError("recipe: expected weights of fewer than 8 bits with int8, got 8 in every layer; name another")
