"""The XL/2 models at 16x256x256, with random weights in a real checkpoint's layout.

    MODELS["stdit3-xl"]     STDiT3-XL/2 of Open-Sora v1.2
    MODELS["stdit-xl"]      STDiT-XL/2 of Open-Sora v1.0

Depth is an option: blocks are equal, so time and memory of any depth are those of one block times their number. No
released checkpoint can be had here; weights are drawn as such models are initialised, N(0, 1 / inputs) for matrices,
so that activations keep their size through all blocks.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file

from tvm_flow.artifact import atomic_path, write_bytes, write_json
from tvm_flow.errors import ConfigError
from tvm_flow.model import STDIT3_XL_2, STDIT_XL_2_256, STDiT3Config, STDiTConfig
from tvm_flow.model.checkpoint import empty_model
from tvm_flow.model.files import SINGLE

LATENT = (4, 16, 32, 32)
"""16 frames of 256x256 pixels behind an autoencoder that takes 8x8 pixels to one."""
PIXELS = 16
"""Of a patch: 2x2 places of a latent of 8x8 pixels each."""
PROMPT, TOKENS = "random tokens", 20
SEED = 20260101
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BenchModel:
    """A config, the sampler that it is calibrated with, and the shape of its latent."""

    config: STDiTConfig | STDiT3Config
    sampler: Mapping[str, Any]
    latent: tuple[int, int, int, int] = LATENT

    def with_blocks(self, blocks: int) -> BenchModel:
        """The same model with ``blocks`` blocks, of either kind for STDiT3."""
        return replace(self, config=replace(self.config, depth=blocks))

    def with_pixels(self, pixels: int) -> BenchModel:
        """The same model for videos of so many rows and columns, positions scaled as the one released for them."""
        side, config = pixels // 8, self.config
        if isinstance(config, STDiTConfig):
            config = replace(config, space_scale=pixels / 512)
        sampler = {**self.sampler, "height": pixels, "width": pixels}
        return BenchModel(config, sampler, (*self.latent[:2], side, side))


_VIDEO = {"cfg_scale": 7.0, "fps": 8.0, "frames": 16, "height": 256, "width": 256}
MODELS = {
    "stdit3-xl": BenchModel(STDIT3_XL_2, _VIDEO),
    "stdit-xl": BenchModel(STDIT_XL_2_256, {**_VIDEO, "name": "iddpm"}),
}


def bench_model(name: str, blocks: int | None, pixels: int | None = None) -> BenchModel:
    """The model ``name`` with ``blocks`` blocks for videos of ``pixels`` rows and columns, its own by default.

    Raises ConfigError.
    """
    if name not in MODELS:
        raise ConfigError(f"model {name!r}: expected one of {', '.join(MODELS)}; choose one of them")
    if pixels is not None and (pixels < PIXELS or pixels % PIXELS):
        raise ConfigError(f"{pixels} pixels: expected a positive multiple of {PIXELS}; for instance 512")
    model = MODELS[name] if blocks is None else MODELS[name].with_blocks(blocks)
    return model if pixels is None else model.with_pixels(pixels)


@dataclass(frozen=True)
class Inputs:
    """Files that a build starts from and the shape of its latent, as the commands' options name them."""

    checkpoint: Path
    sampler: Path
    captions: Path
    prompts: Path
    latent: tuple[int, int, int, int] = LATENT


def write_inputs(model: BenchModel, folder: Path, steps: int, seed: int = SEED) -> Inputs:
    """Checkpoint, sampler of ``steps`` steps, caption tokens and prompt file of ``model`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(model.config, folder / "checkpoint", seed)
    shape = (1, model.config.model_max_length, model.config.caption_channels)
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1
    captions = {"tokens": tokens, "lengths": torch.tensor([min(TOKENS, shape[1])])}
    save_file(captions, folder / "captions.safetensors", {"captions": json.dumps([PROMPT])})
    write_bytes(folder / "sampler.yaml", yaml.safe_dump({**model.sampler, "steps": steps}).encode())
    write_bytes(folder / "prompts.yaml", yaml.safe_dump({"prompts": [PROMPT], "seed": seed}).encode())
    return Inputs(folder / "checkpoint", folder / "sampler.yaml", folder, folder / "prompts.yaml", model.latent)


def write_checkpoint(config: STDiTConfig | STDiT3Config, folder: Path, seed: int) -> None:
    """``config.json`` and ``model.safetensors`` (float32), one tensor in memory at a time."""
    shapes = {key: tuple(value.shape) for key, value in empty_model(config).state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(folder / SINGLE) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for values in _random_values(shapes, seed):
            stream.write(values.data)
    write_json(folder / "config.json", config.to_dict())


def _random_values(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Iterator[Floats]:
    """Each tensor depends on the seed and its own name alone, so that equal blocks of two depths are equal."""
    for key, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
        values: NDArray[Any] = rng.standard_normal(shape, np.float32)
        if key.endswith("rope.freqs"):
            values = np.power(10000, -np.arange(shape[0]) / shape[0]).astype(np.float32)
        elif key.endswith("norm.weight"):
            values = 1 + values / 10
        elif key.endswith("bias"):
            values /= 50
        else:
            values /= np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        yield np.ascontiguousarray(values, np.float32)
