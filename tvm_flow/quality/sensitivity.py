"""What each layer costs at each part of the trajectory: it alone quantized, there alone, the final latent compared.

The steps before a window run once, in float; those from it on run anew for every layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.artifact import read_json, write_json
from tvm_flow.errors import ConfigError
from tvm_flow.fields import require_keys
from tvm_flow.quality.trials import Pair, Subject
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import AnyLayer, simulating
from tvm_flow.sampler import denoise, drawn_from, model_outputs


@dataclass(frozen=True)
class Sensitivity:
    """``errors`` [layers][windows]: |quantized - float| / |float| of the final latents of ``prompts``.

    ``windows`` are steps, first and last included.
    """

    recipe: str
    prompts: tuple[str, ...]
    layers: tuple[str, ...]
    windows: tuple[tuple[int, int], ...]
    errors: tuple[tuple[float, ...], ...]


def step_windows(steps: int, count: int) -> tuple[tuple[int, int], ...]:
    """``steps`` in ``count`` parts of about equal length."""
    ends = [steps * k // count for k in range(count + 1)]
    return tuple((a, b - 1) for a, b in pairwise(ends) if b > a)


def measure_sensitivity(
    subject: Subject, recipe: tuple[str, Recipe], pairs: Sequence[Pair], count: int, progress: bool = True
) -> Sensitivity:
    """Of every layer in ``count`` windows, by the recipe (name, Recipe), over ``pairs``."""
    model, sampler = subject.denoising.model, subject.denoising.sampler
    scheme = make_scheme(model, recipe[1], subject.samples)
    windows = step_windows(sampler.steps, count)
    starts, exact = float_latents(subject, pairs)
    errors: dict[str, list[float]] = {name: [] for name in scheme.layers}
    with tqdm(total=len(errors) * len(windows), desc="sensitivity", unit="run", disable=not progress) as bar:
        for window in windows:
            for name in errors:
                got = _from(subject, pairs, (window, starts[window[0]]), {name: scheme.layers[name]})
                errors[name].append(float((got - exact).norm() / exact.norm()))
                bar.update()
    prompts = tuple(pair.prompt for pair in pairs)
    return Sensitivity(recipe[0], prompts, tuple(errors), windows, tuple(tuple(row) for row in errors.values()))


def save_sensitivity(path: Path, found: Sensitivity) -> None:
    """As JSON, whole or not at all."""
    write_json(path, asdict(found))


def load_sensitivity(path: Path) -> Sensitivity:
    """What `save_sensitivity` wrote; raises ConfigError naming the file."""
    values = read_json(path)
    require_keys(Sensitivity, f"{path}: ", values)
    windows = tuple((int(first), int(last)) for first, last in values["windows"])
    errors = tuple(tuple(float(value) for value in row) for row in values["errors"])
    layers, prompts = tuple(values["layers"]), tuple(values["prompts"])
    if len(errors) != len(layers) or any(len(row) != len(windows) for row in errors):
        raise ConfigError(f"{path}: expected a row for each layer and a number for each window; measure it again")
    return Sensitivity(str(values["recipe"]), prompts, layers, windows, errors)


def float_latents(subject: Subject, pairs: Sequence[Pair]) -> tuple[list[Tensor], Tensor]:
    """FP32's latents of ``pairs`` before each step, and the last ones: each [N, C, T, H, W]."""
    before: list[Tensor] = []
    denoising = subject.denoising
    outputs = model_outputs(denoising.model, *subject.embed([p.prompt for p in pairs]), denoising.sampler)

    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        before.append(z)
        return outputs(z, step, t)

    noise = [torch.randn(denoising.latent, generator=torch.Generator().manual_seed(p.seed)) for p in pairs]
    return before, denoise(predict, torch.stack(noise), denoising.sampler, _drawn(subject, pairs))


def quantized_latents(subject: Subject, pairs: Sequence[Pair], noise: Tensor, layers: Mapping[str, AnyLayer]) -> Tensor:
    """The last latents of ``pairs`` from ``noise``, both [N, C, T, H, W], with ``layers`` simulated at every step."""
    return _from(subject, pairs, ((0, subject.denoising.sampler.steps - 1), noise), layers)


def _from(
    subject: Subject, pairs: Sequence[Pair], at: tuple[tuple[int, int], Tensor], layers: Mapping[str, AnyLayer]
) -> Tensor:
    """Denoise from the first step of a window (first, last) on, with ``layers`` simulated within it."""
    (first, last), z = at
    denoising = subject.denoising
    outputs = model_outputs(denoising.model, *subject.embed([p.prompt for p in pairs]), denoising.sampler)

    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        with simulating(denoising.model, layers if first <= step <= last else {}) as clock:
            clock.step = step
            return outputs(z, step, t)

    return denoise(predict, z, denoising.sampler, _drawn(subject, pairs), start=first)


def _drawn(subject: Subject, pairs: Sequence[Pair]):  # type: ignore[no-untyped-def]
    latent = subject.denoising.latent
    return lambda step: torch.cat([drawn_from(pair.seed, latent)(step) for pair in pairs])
