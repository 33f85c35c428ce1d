"""Activation ranges per layer, step and branch, and the file that keeps them.

One safetensors file. For every quantized layer, under its module path:

    <layer>.min, <layer>.max     float32 [steps, 2]      over tokens and channels of the layer's input
    <layer>.absmax               float32 [steps, 2, K]   per input channel

The second axis is the branch: 0 cond, 1 uncond. The header's metadata has one key, ``tvm_flow``, a JSON
object: format, model_sha256, sampler, latent (shape [C, T, H, W]), the prompts done with their seeds, in order, and
the sha256 of all these and the tensors (`tvm_flow.calibrate.seal`), which `load_ranges` checks. Files of earlier
versions have none: joining them (calibrate --merge) takes them as they are and gives one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tvm_flow.artifact import atomic_path
from tvm_flow.calibrate.prompts import CalibrationPrompt
from tvm_flow.calibrate.seal import KEY, digest, sealed
from tvm_flow.causes import Cause
from tvm_flow.documents import parse_json
from tvm_flow.errors import CalibrationError, ConfigError
from tvm_flow.sampler import SamplerConfig

FORMAT = 1
_PARTS = ("min", "max", "absmax")
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LayerRanges:
    """``min``, ``max`` float32 [steps, 2]; ``absmax`` float32 [steps, 2, K]."""

    min: Floats
    max: Floats
    absmax: Floats

    def __post_init__(self) -> None:
        for name, part in zip(_PARTS, (self.min, self.max, self.absmax), strict=True):
            if not np.isfinite(part).all():
                raise CalibrationError(f"{name}: expected finite ranges, got NaN or infinity; check the float model")
        edge = np.maximum(-self.min, self.max)
        if not (np.array_equal(self.absmax.max(-1), edge) and (self.min <= self.max).all()):
            raise CalibrationError("min, max and absmax contradict each other; delete the file and calibrate again")


@dataclass(frozen=True, eq=False)
class Ranges:
    """What a calibration has seen so far; ``layers`` maps a layer's module path to its ranges."""

    model_sha256: str
    sampler: SamplerConfig
    latent: tuple[int, int, int, int]
    prompts: tuple[CalibrationPrompt, ...]
    layers: Mapping[str, LayerRanges]


def merge(a: Ranges, b: Ranges) -> Ranges:
    """Ranges over the prompts of both: elementwise minimum and maximum; a prompt in both counts once.

    Raises CalibrationError naming the first of model, sampler, latent, layers or channels that differs.
    """
    for field in ("model_sha256", "sampler", "latent"):
        if getattr(a, field) != getattr(b, field):
            raise _mismatch(field, getattr(a, field), getattr(b, field))
    if set(a.layers) != set(b.layers):
        raise _mismatch("layers", sorted(set(a.layers) - set(b.layers)), sorted(set(b.layers) - set(a.layers)))
    prompts = a.prompts + tuple(prompt for prompt in b.prompts if prompt not in a.prompts)
    layers = {name: _merge_layer(name, a.layers[name], b.layers[name]) for name in a.layers}
    return Ranges(a.model_sha256, a.sampler, a.latent, prompts, layers)


def save_ranges(path: Path, ranges: Ranges) -> None:
    """Write ``ranges`` to ``path``, whole or not at all."""
    metadata = {
        "format": FORMAT,
        "model_sha256": ranges.model_sha256,
        "sampler": ranges.sampler.to_dict(),
        "latent": ranges.latent,
        "prompts": [asdict(prompt) for prompt in ranges.prompts],
    }
    tensors = {
        f"{name}.{part}": np.ascontiguousarray(getattr(layer, part))
        for name, layer in ranges.layers.items()
        for part in _PARTS
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, sealed(metadata, tensors))


def ranges_sampler(path: Path) -> SamplerConfig:
    """The sampler that the ranges in ``path`` belong to, from its header alone; raises CalibrationError."""
    try:
        with safe_open(path, framework="numpy") as file:
            return SamplerConfig.from_dict(parse_json((file.metadata() or {})["tvm_flow"].encode())["sampler"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise CalibrationError(f"{path}: expected a readable ranges file, got: {error!r}; calibrate again") from error


def load_ranges(path: Path, unsealed: bool = False) -> Ranges:
    """Read a file that ``save_ranges`` wrote; with ``unsealed`` also one of before it had a sha256.

    Raises CalibrationError naming ``path`` when it is absent, damaged, of another format, or inconsistent.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = parse_json((file.metadata() or {})["tvm_flow"].encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["format"] != FORMAT:
            raise CalibrationError(
                f"format: expected {FORMAT}, got {metadata['format']}; calibrate again", Cause.WRONG_VERSION
            )
        stated = metadata.pop(KEY, None)
        if stated is not None and stated != (got := digest(metadata, tensors)):
            raise CalibrationError(
                f"expected values whose sha256 is {stated!s:.12}..., got {got:.12}...; copy it again, or calibrate "
                "again",
                Cause.CHANGED,
            )
        found = _build(metadata, tensors)
        if stated is None and not unsealed:
            raise CalibrationError(
                "expected the sha256 of its values, got a file of an earlier version without one; take it as it is "
                "into a new one: tvm-flow calibrate --merge FILE --output NEW"
            )
        return found
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise CalibrationError(f"{path}: expected a readable ranges file, got: {error!r}; calibrate again") from error
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}", error.cause) from error


def _build(metadata: dict[str, Any], tensors: dict[str, Floats]) -> Ranges:
    sampler = SamplerConfig.from_dict(metadata["sampler"])
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in tensors))
    layers: dict[str, LayerRanges] = {}
    for name in names:
        parts = [tensors[f"{name}.{part}"] for part in _PARTS]
        shape = (sampler.steps, 2)
        if any(part.shape[:2] != shape or part.dtype != np.float32 for part in parts) or parts[2].ndim != 3:
            got = [(part.shape, str(part.dtype)) for part in parts]
            raise CalibrationError(f"{name}: expected float32 ranges of {shape}, got {got}; calibrate again")
        layers[name] = LayerRanges(*parts)
    c, t, h, w = metadata["latent"]
    prompts = tuple(CalibrationPrompt(**prompt) for prompt in metadata["prompts"])
    return Ranges(metadata["model_sha256"], sampler, (c, t, h, w), prompts, layers)


def _merge_layer(name: str, a: LayerRanges, b: LayerRanges) -> LayerRanges:
    if a.absmax.shape != b.absmax.shape:
        raise _mismatch(f"{name}.absmax", a.absmax.shape, b.absmax.shape)
    return LayerRanges(np.minimum(a.min, b.min), np.maximum(a.max, b.max), np.maximum(a.absmax, b.absmax))


def _mismatch(field: str, a: object, b: object) -> CalibrationError:
    return CalibrationError(
        f"ranges: {field} differs; have {a} but {b}; only ranges of one model, sampler and latent can be used together"
    )
