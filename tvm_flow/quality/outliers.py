"""Outlier channels in a model that has none, by a rescale that changes nothing of what it computes.

A small model has no activation outliers, so that plain 8 bits look perfect on it; large ones have them. In front of a
linear some channels of its input are multiplied by a power of two, and the linear's columns divided by it: every
product is what it was, bit for bit, while a quantizer of the input meets outliers of stated size.

A factor cannot depend on the step, for its inverse lies in weights that all steps share. That the outliers drift over
the steps is had by choice of channels: those whose own magnitude changes most from step to step.

    places:                                     # YAML; globs over layer names
      - {layers: "*.attn.qkv", share: 0.02, factor: 32}
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from tvm_flow.calibrate import LayerRanges, Ranges, layer_names
from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, number, read_yaml, require_keys
from tvm_flow.model import AnyModel

LARGEST = 2.0**16
"""Of a factor: what is reported of the worst models (6.6e4), and far from the ends of float32."""


@dataclass(frozen=True)
class Place:
    """``share`` of the channels (at least one) of each layer that matches ``layers`` grow by ``factor``."""

    layers: Annotated[str, described("a glob pattern over layer names")]
    share: Annotated[float, number(0, 1)]
    factor: Annotated[float, number(1, LARGEST)]

    def __post_init__(self) -> None:
        check_fields(self, "outliers: ")
        if np.frexp(self.factor)[0] != 0.5:
            raise ConfigError(f"outliers: factor: expected a power of two, which rounds nothing, got {self.factor:g}")


@dataclass(frozen=True)
class Outliers:
    """Where outliers are inserted; of several places that match a layer the first counts."""

    places: Annotated[tuple[Place, ...], described("a list of layers, share and factor", least=1)]

    def __post_init__(self) -> None:
        check_fields(self, "outliers: ")

    def place(self, layer: str) -> Place | None:
        """What is said of ``layer``."""
        return next((place for place in self.places if fnmatchcase(layer, place.layers)), None)


def load_outliers(path: Path) -> Outliers:
    """Read the YAML file ``path``; raises ConfigError naming it."""
    content = read_yaml(path, "outliers")
    try:
        require_keys(Outliers, "outliers: ", content)
        given = content["places"] if isinstance(content["places"], list) else [content["places"]]
        return Outliers(tuple(from_mapping(Place, "outliers: ", place) for place in given))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def with_outliers(model: AnyModel, ranges: Ranges, outliers: Outliers) -> AnyModel:
    """A copy of ``model`` that computes the same; ``ranges`` are those of ``model`` and say which channels drift.

    Hooks on its linears see the inputs with their outliers when they are registered later, as calibration's are.
    """
    changed = copy.deepcopy(model)
    for name in layer_names(model.config):
        if (place := outliers.place(name)) is not None:
            factors = channel_factors(ranges.layers[name], place)
            linear = changed.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            linear.weight.data = linear.weight.data / factors.to(linear.weight)
            linear.register_forward_pre_hook(_multiplied(factors))
    return changed


def channel_factors(ranges: LayerRanges, place: Place) -> Tensor:
    """float32 [K]: ``place.factor`` for the channels whose magnitude changes most over the steps, 1 for the others."""
    absmax = np.maximum(ranges.absmax.max(1), np.finfo(np.float32).tiny)
    drift = absmax.max(0) / absmax.min(0)
    # A channel that is hardly ever active would be no outlier.
    drift[absmax.max(0) < np.median(absmax.max(0))] = 0
    count = max(1, round(place.share * len(drift)))
    factors = torch.ones(len(drift))
    factors[torch.from_numpy(np.argsort(-drift, kind="stable")[:count].copy())] = place.factor
    return factors


def _multiplied(factors: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Tensor]]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        return (inputs[0] * factors.to(inputs[0]),)

    return hook
