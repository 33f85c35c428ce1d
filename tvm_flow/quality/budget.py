"""What keeping layers out of few bits costs, and how much of that may be spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

from torch import nn

from tvm_flow.calibrate import layer_names
from tvm_flow.errors import ConfigError
from tvm_flow.quality.trials import Subject
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.fold import TIMELESS_KINDS

FLOAT_BYTES = 4
HALVES_A_BYTE = 4
"""Weights of at most so many bits lie two in a byte."""
Precision = Literal["float", "int8"]
Window = tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """``weight_bytes`` beyond the recipe's own, and the share of all linears' multiply-adds done in float."""

    weight_bytes: float = 0.0
    macs: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The most of each; None is no limit, and one of the two is there. ``to`` is what a kept layer gets."""

    weight_bytes: float | None
    macs: float | None
    to: Precision = "float"

    def __post_init__(self) -> None:
        if self.weight_bytes is None and self.macs is None:
            raise ConfigError("budget: expected bytes, a share of multiply-adds, or both, got none; name one")
        if self.to == "int8" and self.macs is not None:
            raise ConfigError("budget: expected no share of multiply-adds with int8, whose are int8, too; leave it out")

    @property
    def whole_layers(self) -> bool:
        """Whether candidates are layers at all steps."""
        return self.macs is None

    def share(self, cost: Cost) -> float:
        """Of the budget that ``cost`` takes; above 1 it does not fit."""
        shares = [cost.weight_bytes / max(self.weight_bytes, 1e-9)] if self.weight_bytes is not None else []
        return max([*shares, *([cost.macs / max(self.macs, 1e-9)] if self.macs is not None else [])])


@dataclass(frozen=True)
class Candidate:
    """A layer at ``steps``, or at all of them; ``effect`` is |quantized - float| / |float| of the final latents."""

    layer: str
    steps: Window | None
    effect: float


@dataclass(frozen=True)
class Sizes:
    """Of each layer: elements of its weight, their bytes in the recipe, and its multiply-adds over all steps."""

    weights: Mapping[str, int]
    own_bytes: Mapping[str, float]
    macs: Mapping[str, float]
    steps: int

    @classmethod
    def of(cls, subject: Subject, recipe: Recipe) -> Sizes:
        denoising, config = subject.denoising, subject.denoising.model.config
        tokens = prod(ceil(size / patch) for size, patch in zip(denoising.latent[1:], config.patch, strict=True))
        steps = denoising.sampler.steps
        weights, own, macs = {}, {}, {}
        for name in layer_names(config):
            linear = denoising.model.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            weights[name] = linear.weight.numel()
            own[name] = weights[name] * (0.5 if recipe.bits(name, 0).weights <= HALVES_A_BYTE else 1.0)
            rows = config.model_max_length if name.endswith(TIMELESS_KINDS) else tokens * steps
            macs[name] = float(weights[name] * rows)
        total = sum(macs.values())
        return cls(weights, own, {name: value / total for name, value in macs.items()}, steps)

    def cost(self, chosen: Sequence[Candidate], to: Precision) -> Cost:
        """Of all ``chosen`` together; a layer in float at some steps has its codes beside its float weights."""
        weight_bytes = macs = 0.0
        for layer in {each.layer for each in chosen}:
            windows = [each.steps for each in chosen if each.layer == layer]
            count = sum(self.steps if window is None else window[1] - window[0] + 1 for window in windows)
            if to == "int8":
                weight_bytes += self.weights[layer] - self.own_bytes[layer]
                continue
            weight_bytes += FLOAT_BYTES * self.weights[layer] - (self.own_bytes[layer] if count == self.steps else 0)
            macs += self.macs[layer] * count / self.steps
        return Cost(weight_bytes, macs)
