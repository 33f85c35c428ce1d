"""The file of a quantized model: one safetensors file, whole or absent.

Tensors, by the fields of ``QuantizedModel``:

    layers.<layer>.{weight_q, weight_scale, bias, input_gain, scale, zero_point, float_steps, weight_f}
    folds.<fold>.{base, gain, center}
    params.<key>
    reach.<name>
    step_records, timesteps, updates, and the tables of the model: position_embedding and so on

What is None is absent. The header's metadata has one key, ``tvm_flow`` (one, because their order is not
fixed), a JSON object: format, config, sampler, recipe, latent, model_sha256, layers (name and sqnr_db, in
order), folds (name and offset).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tvm_flow.artifact import atomic_path
from tvm_flow.errors import QuantizeError, TvmFlowError
from tvm_flow.model import config_from_dict
from tvm_flow.quantize.mapped import map_tensors
from tvm_flow.quantize.quantized import TABLES, Fold, QuantizedLayer, QuantizedModel
from tvm_flow.quantize.recipe import Recipe
from tvm_flow.sampler import SamplerConfig

FORMAT = 2
"""1 had Euler steps in place of updates."""
Tensors = dict[str, NDArray[Any]]
_LAYER_DTYPES = {
    "weight_q": np.int8,
    "weight_scale": np.float32,
    "bias": np.float32,
    "input_gain": np.float32,
    "scale": np.float32,
    "zero_point": np.int8,
    "float_steps": np.bool_,
    "weight_f": np.float32,
}
_WHOLE = ("step_records", "timesteps", "updates")


def save_quantized(path: Path, quantized: QuantizedModel) -> None:
    """Write ``quantized`` to ``path``, whole or not at all; equal models give equal bytes."""
    metadata = {
        "format": FORMAT,
        "config": quantized.config.to_dict(),
        "sampler": quantized.sampler.to_dict(),
        "recipe": quantized.recipe.to_dict(),
        "latent": quantized.latent,
        "model_sha256": quantized.model_sha256,
        "layers": [[name, layer.sqnr_db] for name, layer in quantized.layers.items()],
        "folds": [[name, fold.offset] for name, fold in quantized.folds.items()],
    }
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in _tensors(quantized)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"tvm_flow": json.dumps(metadata, sort_keys=True)})


def quantized_sampler(path: Path) -> SamplerConfig:
    """The sampler that the quantized model in ``path`` belongs to, from its header alone; raises QuantizeError."""
    try:
        with safe_open(path, framework="numpy") as file:
            return SamplerConfig.from_dict(json.loads((file.metadata() or {})["tvm_flow"])["sampler"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError, TvmFlowError) as error:
        raise QuantizeError(f"{path}: expected a readable quantized model, got: {error!r}; quantize again") from error


def load_quantized(path: Path) -> QuantizedModel:
    """Read a file that ``save_quantized`` wrote; tensors are views of the file.

    Raises QuantizeError naming ``path`` when it is absent, damaged, of another format, or lacks a tensor.
    """
    try:
        header, tensors = map_tensors(path)
        metadata = json.loads(header["tvm_flow"])
        if metadata["format"] != FORMAT:
            raise QuantizeError(f"expected format {FORMAT}, got {metadata['format']}; quantize again")
        return _build(metadata, tensors)
    except TvmFlowError as error:
        raise QuantizeError(f"{path}: {error}") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise QuantizeError(f"{path}: expected a readable quantized model, got: {error!r}; quantize again") from error


def _tensors(quantized: QuantizedModel) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, layer in quantized.layers.items():
        for field in _LAYER_DTYPES:
            if getattr(layer, field) is not None:
                yield f"layers.{name}.{field}", getattr(layer, field)
    for name, fold in quantized.folds.items():
        yield f"folds.{name}.base", fold.base
        for part in ("gain", "center"):
            if getattr(fold, part) is not None:
                yield f"folds.{name}.{part}", getattr(fold, part)
    for name, param in quantized.params.items():
        yield f"params.{name}", param
    for name, most in quantized.reach.items():
        yield f"reach.{name}", most
    yield from quantized.tables.items()
    for field in _WHOLE:
        yield field, getattr(quantized, field)


def _build(metadata: dict[str, Any], tensors: Tensors) -> QuantizedModel:
    c, t, h, w = metadata["latent"]
    config = config_from_dict(metadata["config"])
    return QuantizedModel(
        config=config,
        sampler=SamplerConfig.from_dict(metadata["sampler"]),
        recipe=Recipe.from_dict(metadata["recipe"]),
        latent=(c, t, h, w),
        model_sha256=metadata["model_sha256"],
        layers={name: _layer(name, tensors, sqnr) for name, sqnr in metadata["layers"]},
        folds={
            name: Fold(
                offset,
                tensors[f"folds.{name}.base"],
                tensors.get(f"folds.{name}.gain"),
                tensors.get(f"folds.{name}.center"),
            )
            for name, offset in metadata["folds"]
        },
        params=_under("params.", tensors),
        reach=_under("reach.", tensors),
        tables={name: tensors[name] for name in TABLES[config.model_type]},
        **{field: tensors[field] for field in _WHOLE},
    )


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}


def _layer(name: str, tensors: Tensors, sqnr_db: float | None) -> QuantizedLayer:
    parts = {field: tensors.get(f"layers.{name}.{field}") for field in _LAYER_DTYPES}
    for field, part in parts.items():
        if part is not None and part.dtype != _LAYER_DTYPES[field]:
            raise QuantizeError(f"{name}.{field}: expected {np.dtype(_LAYER_DTYPES[field])}, got {part.dtype}")
    if parts["bias"] is None or parts["scale"] is None or parts["float_steps"] is None:
        raise QuantizeError(f"{name}: expected bias, scale and float_steps; quantize again")
    try:
        return QuantizedLayer(**parts, sqnr_db=sqnr_db)  # type: ignore[arg-type]
    except QuantizeError as error:
        raise QuantizeError(f"{name}.{error}") from error
