"""What a recipe may say beyond how int8 is scaled: bit widths, what is fitted on samples, and exceptions to both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, number, whole

LEAST_BITS, MOST_BITS = 2, 8
Bits = Annotated[int, whole(LEAST_BITS, MOST_BITS)]
Per = Literal["none", "group", "step"]
_LATER = {"rotation": "none", "inputs": "float", "sampler": "none"}


@dataclass(frozen=True)
class Widths:
    """Bits of the quantized layers' weights and inputs."""

    weights: Bits = 8
    activations: Bits = 8

    def __post_init__(self) -> None:
        check_fields(self, "recipe: widths.")


@dataclass(frozen=True)
class Fit:
    """What is fitted on sampled inputs of each layer, at no cost at run time but the bytes of its tables.

    ===========  ==========================================================================================
    clip         an activation's range: minmax; percentile (99.9 of the magnitudes); mse: the share of minmax whose
                 error in the layer's output is least
    margin       factor by which an activation's range is wider than what calibration saw, before clipping: other
                 prompts reach further
    weight_clip  the same for each output channel of the weights: minmax or mse
    rounding     of weights: nearest, or gptq (arXiv 2210.17323) with the Hessian summed over all steps
    center       subtract each channel's mean before quantizing, where that folds into a norm's shift or into V's bias,
                 and give its product to the layer's bias: for every step group, every step, or not
    correction   add the mean error of a layer's output to its bias: likewise
    alphas       smoothing strengths of which each layer takes the one whose worst step errs least; empty: smoothing's
    rotation     heads: V and what projects it are rotated within each head, which changes nothing that the model
                 computes and spreads a large channel over its head (`rotation`); or none
    inputs       what is fitted on: inputs of the float model along its own trajectory, or of the quantized one along
                 that which its own steps make (`prepare`): float or quantized
    sampler      affine: a factor of each step's guided prediction and a share of its latent, held by the constants of
                 the sampler's update (`affine`); or none
    ===========  ==========================================================================================
    """

    clip: Annotated[Literal["minmax", "percentile", "mse"], described("minmax, percentile or mse")] = "minmax"
    margin: Annotated[float, number(1, 8)] = 1.0
    weight_clip: Annotated[Literal["minmax", "mse"], described("minmax or mse")] = "minmax"
    rounding: Annotated[Literal["nearest", "gptq"], described("nearest or gptq")] = "nearest"
    center: Annotated[Per, described("none, group or step")] = "none"
    correction: Annotated[Per, described("none, group or step")] = "none"
    alphas: Annotated[tuple[Annotated[float, number(0, 1)], ...], described("a list of numbers from 0 to 1")] = ()
    rotation: Annotated[Literal["none", "heads"], described("none or heads")] = "none"
    inputs: Annotated[Literal["float", "quantized"], described("float or quantized")] = "float"
    sampler: Annotated[Literal["none", "affine"], described("none or affine")] = "none"

    def __post_init__(self) -> None:
        check_fields(self, "recipe: fit.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the keys of the YAML file; `_LATER` only where they say something.

        Files made before there were such keys stay as they are.
        """
        values = {**asdict(self), "alphas": list(self.alphas)}
        return {key: value for key, value in values.items() if _LATER.get(key) != value}


@dataclass(frozen=True)
class Override:
    """Other bits for the layers that match ``layers``; ``activations`` only at ``steps`` (first, last) if given."""

    layers: Annotated[str, described("a glob pattern over layer names")]
    weights: Bits | None = None
    activations: Bits | None = None
    steps: Annotated[tuple[int, int] | None, described("[first, last]")] = None

    def __post_init__(self) -> None:
        check_fields(self, "recipe: overrides: ")
        if self.weights is not None and self.steps is not None:
            raise ConfigError(
                f"recipe: overrides: {self.layers!r}: expected no steps beside weights, which all steps share, got "
                f"{list(self.steps)}; make it two overrides"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the keys of the YAML file, without those that are not given."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def fits(self, layer: str, step: int) -> bool:
        """Whether it speaks of ``layer`` at ``step``."""
        first, last = self.steps or (step, step)
        return fnmatchcase(layer, self.layers) and first <= step <= last
