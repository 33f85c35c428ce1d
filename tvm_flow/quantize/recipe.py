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
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tvm_flow.errors import ConfigError

_CHOICES = {
    "activation": ("symmetric", "asymmetric"),
    "ranges": ("per_step", "all_steps"),
    "branches": ("separate", "shared"),
}


@dataclass(frozen=True)
class Smoothing:
    """SmoothQuant (arXiv 2211.10438) of strength ``alpha`` in [0, 1] on the layers that match a pattern."""

    alpha: float = 0.5
    layers: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class KeepFloat:
    """Layers that stay in float: those matching ``layers``, at ``steps`` (first, last) or at all of them."""

    layers: str
    steps: tuple[int, int] | None = None


@dataclass(frozen=True)
class Recipe:
    """How to quantize; the module's docstring explains each field."""

    smoothing: Smoothing | None = Smoothing()
    activation: str = "symmetric"
    ranges: str = "per_step"
    branches: str = "separate"
    keep_float: tuple[KeepFloat, ...] = ()

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"recipe: {key}: expected one of {allowed}, got {getattr(self, key)!r}")
        if self.smoothing is not None and not 0 <= self.smoothing.alpha <= 1:
            raise ConfigError(f"recipe: smoothing.alpha: expected 0 to 1, got {self.smoothing.alpha}")

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
        _known("recipe", values, (*_CHOICES, "smoothing", "keep_float"))
        fields = dict(values)
        if fields.get("smoothing") is not None:
            fields["smoothing"] = _smoothing(fields["smoothing"])
        if "keep_float" in fields:
            fields["keep_float"] = tuple(_keep_float(rule) for rule in _list("keep_float", fields["keep_float"]))
        return cls(**fields)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raises ConfigError naming ``path`` when it is unreadable or not a recipe."""
    try:
        content = yaml.safe_load(path.read_text())
        return Recipe.from_dict({} if content is None else content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a readable YAML recipe, got: {error}; check the path") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _smoothing(value: Any) -> Smoothing:
    _known("recipe: smoothing", value, ("alpha", "layers"))
    alpha = value.get("alpha", 0.5)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise ConfigError(f"recipe: smoothing.alpha: expected a number, got {alpha!r}")
    patterns = _list("smoothing.layers", value.get("layers", ["*"]))
    return Smoothing(float(alpha), tuple(_pattern("smoothing.layers", each) for each in patterns))


def _keep_float(rule: Any) -> KeepFloat:
    if isinstance(rule, str):
        return KeepFloat(rule)
    _known("recipe: keep_float", rule, ("layers", "steps"))
    steps = rule.get("steps")
    if steps is None:
        return KeepFloat(_pattern("keep_float", rule.get("layers")))
    if not (isinstance(steps, list) and len(steps) == 2 and all(type(each) is int for each in steps)):
        raise ConfigError(f"recipe: keep_float: steps: expected [first, last], got {steps!r}")
    return KeepFloat(_pattern("keep_float", rule.get("layers")), (steps[0], steps[1]))


def _known(where: str, value: Any, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping with keys among {sorted(allowed)}, got {value!r}")
    unknown = sorted(str(key) for key in value if key not in allowed)
    if unknown:
        raise ConfigError(f"{where}: unknown keys {unknown}; have {sorted(allowed)}; remove or rename them")


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"recipe: {key}: expected a list, got {value!r}")
    return value


def _pattern(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"recipe: {key}: expected a glob pattern over layer names, got {value!r}")
    return value
