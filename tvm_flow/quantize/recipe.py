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

And, absent from most recipes, what is fitted on sampled inputs; `evaluate` simulates all of it, `quantize` makes what
is static and has activations of 8 bits:

    method: static             # or dynamic: a scale per token, found at run time; float16; float32
    widths: {weights: 8, activations: 8}
    groups: null               # of per_step ranges: join steps to so many contiguous groups, by least summed error
    fit: {clip: mse}           # see ``Fit`` in `recipe_parts`
    overrides:                 # other widths for some layers, and steps
      - {layers: "*.mlp.fc2", weights: 8, activations: 8, steps: [0, 2]}
    between: float             # or integer: norms, softmax, GELU, gates and residual, too (`integer_block`)
    attention: float           # or int8: its two products, too, the softmax in float (`simulated_attention`)

Every key may be left out; the defaults are those of ``Recipe``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, number, read_yaml, require_keys, whole
from tvm_flow.limits import MAX_STEPS
from tvm_flow.quantize.recipe_parts import MOST_BITS, Fit, Override, Widths

_ALL_EIGHT, _NOTHING_FITTED = Widths(), Fit()
_CHOICES = ("activation", "ranges", "branches")
_FITTED = ("method", "widths", "groups", "fit", "overrides")
_EXTRA = (*_FITTED, "between", "attention")
"""Written only where they differ from their defaults: files made before there were such keys stay as they are."""


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
    method: Annotated[
        Literal["static", "dynamic", "float16", "float32"], described("static, dynamic, float16 or float32")
    ] = "static"
    widths: Annotated[Widths, described("a mapping of weights and activations")] = _ALL_EIGHT
    groups: Annotated[int | None, whole(1, MAX_STEPS)] = None
    fit: Annotated[Fit, described("a mapping of what is fitted")] = _NOTHING_FITTED
    overrides: Annotated[tuple[Override, ...], described("a list of layers with their widths")] = ()
    between: Annotated[Literal["float", "integer"], described("float or integer")] = "float"
    attention: Annotated[Literal["float", "int8"], described("float or int8")] = "float"

    def __post_init__(self) -> None:
        check_fields(self, "recipe: ")
        if self.groups is not None and self.ranges != "per_step":
            raise ConfigError(f"recipe: groups: expected null with ranges {self.ranges}, got {self.groups}; drop one")
        self._check_between()
        if self.attention == "int8" and self.method != "static":
            raise ConfigError(f"recipe: method: expected static with attention int8, got {self.method}; drop one")
        if self.fit.sampler == "affine" and (self.attention, self.between) != ("float", "float"):
            raise ConfigError("recipe: fit.sampler: expected none with attention or between in integers; drop one")

    def _check_between(self) -> None:
        """Blocks in integers have symmetric int8 at every step, and none of what would be subtracted in float."""
        if self.between == "integer":
            plain = Recipe()
            for key in ("method", "activation", "widths", "overrides", "keep_float", "attention"):
                if getattr(self, key) != getattr(plain, key):
                    raise ConfigError(
                        f"recipe: {key}: expected {getattr(plain, key) or 'none'} with between integer, got "
                        f"{getattr(self, key)}; drop one"
                    )
            for key in ("center", "rotation"):
                if (value := getattr(self.fit, key)) != "none":
                    raise ConfigError(f"recipe: fit.{key}: expected none with between integer, got {value}; drop one")

    @property
    def fitted(self) -> tuple[str, ...]:
        """The keys by which this recipe asks for more than ranges tell: inputs have to be sampled."""
        return self._differing(_EXTRA)

    @property
    def measures_more(self) -> bool:
        """Whether it asks how far something reaches that is no linear's input."""
        return self.between == "integer" or self.attention == "int8"

    @property
    def simulated_only(self) -> tuple[str, ...]:
        """What this recipe asks for that no library runs."""
        odd = [f"{key} {getattr(self, key)}" for key in self._differing(("method",))]
        if self.attention == "int8":  # V's codes are of V, not of what is left of it; corrections know linears alone
            kept = {key: getattr(self.fit, key) for key in ("center", "sampler")}
            odd += [f"attention int8 with fit.{key} {value}" for key, value in kept.items() if value != "none"]
        widths = {self.widths.activations, *(rule.activations or MOST_BITS for rule in self.overrides)}
        return (*odd, *(f"activations of {bits} bits" for bits in sorted(widths) if bits != MOST_BITS))

    def _differing(self, keys: Sequence[str]) -> tuple[str, ...]:
        plain = Recipe()
        return tuple(key for key in keys if getattr(self, key) != getattr(plain, key))

    def bits(self, layer: str, step: int) -> Widths:
        """The widths of ``layer`` at ``step``; of several overrides the last one counts."""
        weights, activations = self.widths.weights, self.widths.activations
        for rule in self.overrides:
            if rule.fits(layer, step):
                weights, activations = rule.weights or weights, rule.activations or activations
        return Widths(weights, activations)

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
        rules: dict[str, tuple[KeepFloat | Override, ...]] = {
            "keep_float": self.keep_float,
            "overrides": self.overrides,
        }
        patterns = [rule.layers for given in rules.values() for rule in given]
        patterns += self.smoothing.layers if self.smoothing else ()
        for pattern in patterns:
            if not any(fnmatchcase(layer, pattern) for layer in layers):
                raise ConfigError(
                    f"recipe: pattern {pattern!r} matches no layer; layers are called {layers[0]} to {layers[-1]}"
                )
        if self.groups is not None and self.groups > steps:
            raise ConfigError(f"recipe: groups: expected at most the {steps} steps, got {self.groups}; lower it")
        for key, given in rules.items():
            for rule in given:
                if rule.steps is not None and not 0 <= rule.steps[0] <= rule.steps[1] < steps:
                    raise ConfigError(
                        f"recipe: {key} {rule.layers!r}: expected steps [first, last] "
                        f"within 0 to {steps - 1}, got {list(rule.steps)}"
                    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the keys of the YAML file."""
        smoothing = self.smoothing and {"alpha": self.smoothing.alpha, "layers": list(self.smoothing.layers)}
        kept = [
            rule.layers if rule.steps is None else {"layers": rule.layers, "steps": list(rule.steps)}
            for rule in self.keep_float
        ]
        more = {key: _plain(getattr(self, key)) for key in self._differing(_EXTRA)}
        return {**{k: getattr(self, k) for k in _CHOICES}, "smoothing": smoothing, "keep_float": kept, **more}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_dict``; raises ConfigError for unknown keys and impossible values."""
        require_keys(cls, "recipe: ", values)
        fields = dict(values)
        if fields.get("smoothing") is not None:
            fields["smoothing"] = from_mapping(Smoothing, "recipe: smoothing: ", fields["smoothing"])
        if isinstance(fields.get("keep_float"), list):
            fields["keep_float"] = tuple(_keep_float(rule) for rule in fields["keep_float"])
        for key, kind in (("widths", Widths), ("fit", Fit)):
            if key in fields:
                fields[key] = from_mapping(kind, f"recipe: {key}: ", fields[key])
        if isinstance(fields.get("overrides"), list):
            rules = fields["overrides"]
            fields["overrides"] = tuple(from_mapping(Override, "recipe: overrides: ", rule) for rule in rules)
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


def _plain(value: Any) -> Any:
    if isinstance(value, Fit):
        return value.to_dict()
    if isinstance(value, tuple):
        return [rule.to_dict() for rule in value]
    return asdict(value) if isinstance(value, Widths) else value
