"""The YAML of ``tvm-flow build``.

    model: demo                     or a checkpoint folder or file
    prompts: prompts.yaml           what to calibrate on
    recipe: recipes/w8a8.yaml       how to quantize
    target: host                    what to compile for
    output: ../artifacts/demo       where every stage writes
    sampler: sampler.yaml           for a model other than the demo: its step grid,
    latent: [4, 16, 32, 32]         the shape of its latent, and
    captions: prompts.safetensors   the embeddings of its prompts
    autoencoder: OpenSora-VAE-v1.2  whose decoder the bundle is to end in

Paths are relative to the file. Unknown keys are an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.source import DEMO

_REQUIRED = ("prompts", "recipe", "output")
_OPTIONAL = ("model", "target", "sampler", "latent", "captions", "autoencoder")


@dataclass(frozen=True)
class BuildConfig:
    """A parsed build file; paths are absolute."""

    model: str
    prompts: Path
    recipe: Path
    target: str
    output: Path
    sampler: Path | None = None
    latent: tuple[int, int, int, int] | None = None
    captions: Path | None = None
    autoencoder: Path | None = None

    @property
    def ranges(self) -> Path:
        """What calibrate writes."""
        return self.output / "ranges.safetensors"

    @property
    def quantized(self) -> Path:
        """What quantize writes."""
        return self.output / "quantized.safetensors"

    @property
    def export(self) -> Path:
        """What export writes."""
        return self.output / "export"

    @property
    def bundle(self) -> Path:
        """What compile writes."""
        return self.output / "bundle"


def load_build_config(path: Path) -> BuildConfig:
    """Parse ``path``; raises ConfigError naming the file, the key, what was expected and what was found."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a readable YAML file, got: {error}; check the path") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping, got {type(values).__name__}; see calibration/demo.yaml")
    unknown = sorted(str(key) for key in set(values) - {*_REQUIRED, *_OPTIONAL})
    missing = sorted(set(_REQUIRED) - set(values))
    if unknown or missing:
        raise ConfigError(
            f"{path}: expected the keys {', '.join(_REQUIRED)} and perhaps {', '.join(_OPTIONAL)}; "
            f"unknown: {unknown}, missing: {missing}; correct the file"
        )
    base = path.resolve().parent
    texts = {key: _text(path, key, value) for key, value in values.items() if key != "latent"}
    model, target = texts.get("model", DEMO), texts.get("target", "host")
    return BuildConfig(
        model=model if model == DEMO else str(base / model),
        prompts=base / texts["prompts"],
        recipe=base / texts["recipe"],
        target=str(base / target) if target.endswith((".yaml", ".yml")) else target,
        output=(base / texts["output"]).resolve(),
        sampler=base / texts["sampler"] if "sampler" in texts else None,
        latent=_latent(path, values["latent"]) if "latent" in values else None,
        captions=base / texts["captions"] if "captions" in texts else None,
        autoencoder=base / texts["autoencoder"] if "autoencoder" in texts else None,
    )


def _text(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}: {key}: expected text, got {value!r}; correct the file")
    return value


def _latent(path: Path, value: Any) -> tuple[int, int, int, int]:
    if not isinstance(value, list) or len(value) != 4 or not all(type(v) is int and v > 0 for v in value):
        raise ConfigError(f"{path}: latent: expected four positive sizes [C, T, H, W], got {value!r}; correct the file")
    return (value[0], value[1], value[2], value[3])
