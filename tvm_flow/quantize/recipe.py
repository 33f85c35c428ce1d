"""Recipes: how to quantize, read from YAML.

    smoothing:                 # null switches it off
      alpha: 0.5               # 0 moves nothing into the weights, 1 everything
      layers: ["*"]            # glob patterns over layer names such as spatial_blocks.0.attn.qkv
    activation: symmetric      # or asymmetric
    ranges: per_step           # or all_steps: one set of scales for every step ("ASQ" in arXiv 2502.15077)
    branches: separate         # or shared: one set of scales for cond and uncond
    keep_float:                # a pattern, or a pattern and its steps, first and last included
      - "*.cross_attn.proj"
      - {layers: "*.mlp.fc2", steps: [0, 2]}

Every key may be left out; the defaults are those of ``Recipe``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, number, read_yaml, require_keys

_CHOICES = ("activation", "ranges", "branches")


@dataclass(frozen=True)
class Smoothing:
    """SmoothQuant (arXiv 2211.10438) of strength ``alpha`` in [0, 1] on the layers that match a pattern."""

    alpha: Annotated[float, number(0, 1)] = 0.5
    layers: Annotated[tuple[str, ...], described("a list of glob patterns over layer names")] = ("*",)

    def __post_init__(self) -> None:
        check_fields(self, "recipe: smoothing.")


@dataclass(frozen=True)
class KeepFloat:
    """Layers that stay in float: those matching ``layers``, at ``steps`` (first, last) or at all of them."""

    layers: Annotated[str, described("a glob pattern over layer names")]
    steps: Annotated[tuple[int, int] | None, described("[first, last]")] = None

    def __post_init__(self) -> None:
        check_fields(self, "recipe: keep_float: ")


@dataclass(frozen=True)
class Recipe:
    """How to quantize; the module's docstring explains each field."""

    smoothing: Annotated[Smoothing | None, described("null or a mapping of alpha and layers")] = Smoothing()
    activation: Annotated[Literal["symmetric", "asymmetric"], described("symmetric or asymmetric")] = "symmetric"
    ranges: Annotated[Literal["per_step", "all_steps"], described("per_step or all_steps")] = "per_step"
    branches: Annotated[Literal["separate", "shared"], described("separate or shared")] = "separate"
    keep_float: Annotated[tuple[KeepFloat, ...], described("a list of patterns, or of layers and steps")] = ()

    def __post_init__(self) -> None:
        check_fields(self, "recipe: ")

    def smooths(self, layer: str) -> bool:
        """True when ``layer`` gets a smoothing vector."""
        return self.smoothing is not None and any(fnmatchcase(layer, p) for p in self.smoothing.layers)

    def float_steps(self, layer: str, steps: int) -> NDArray[np.bool_]:
        """bool [steps]: where ``layer`` stays in float."""
        kept = np.zeros(steps, np.bool_)
        for rule in self.keep_float:
            if fnmatchcase(layer, rule.layers):
                first, last = rule.steps or (0, steps - 1)
                kept[first : last + 1] = True
        return kept

    def check(self, layers: Sequence[str], steps: int) -> None:
        """Raise ConfigError for a pattern that matches none of ``layers``, or steps that do not exist."""
        patterns = [rule.layers for rule in self.keep_float]
        patterns += self.smoothing.layers if self.smoothing else ()
        for pattern in patterns:
            if not any(fnmatchcase(layer, pattern) for layer in layers):
                raise ConfigError(
                    f"recipe: pattern {pattern!r} matches no layer; layers are called {layers[0]} to {layers[-1]}"
                )
        for rule in self.keep_float:
            if rule.steps is not None and not 0 <= rule.steps[0] <= rule.steps[1] < steps:
                raise ConfigError(
                    f"recipe: keep_float {rule.layers!r}: expected steps [first, last] "
                    f"within 0 to {steps - 1}, got {list(rule.steps)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the keys of the YAML file."""
        smoothing = self.smoothing and {"alpha": self.smoothing.alpha, "layers": list(self.smoothing.layers)}
        kept = [
            rule.layers if rule.steps is None else {"layers": rule.layers, "steps": list(rule.steps)}
            for rule in self.keep_float
        ]
        return {**{k: getattr(self, k) for k in _CHOICES}, "smoothing": smoothing, "keep_float": kept}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_dict``; raises ConfigError for unknown keys and impossible values."""
        require_keys(cls, "recipe: ", values)
        fields = dict(values)
        if fields.get("smoothing") is not None:
            fields["smoothing"] = from_mapping(Smoothing, "recipe: smoothing: ", fields["smoothing"])
        if isinstance(fields.get("keep_float"), list):
            fields["keep_float"] = tuple(_keep_float(rule) for rule in fields["keep_float"])
        return cls(**fields)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raises ConfigError naming ``path`` when it is unreadable or not a recipe."""
    content = read_yaml(path, "recipe")
    try:
        return Recipe.from_dict({} if content is None else content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _keep_float(rule: Any) -> KeepFloat:
    return KeepFloat(rule) if isinstance(rule, str) else from_mapping(KeepFloat, "recipe: keep_float: ", rule)
