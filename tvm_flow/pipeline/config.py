"""The YAML of ``tvm-flow build``.

    model: demo                     or a checkpoint folder or file
    prompts: prompts.yaml           what to calibrate on
    recipe: recipes/w8a8.yaml       how to quantize
    target: host                    what to compile for
    output: ../artifacts/demo       where every stage writes
    sampler: sampler.yaml           for a model other than the demo: its step grid,
    latent: [4, 16, 32, 32]         the shape of its latent, and
    captions: prompts.safetensors   the embeddings of its prompts
    config: config.json             for a checkpoint that has none
    autoencoder: OpenSora-VAE-v1.2  whose decoder the bundle is to end in

Paths are relative to the file. Unknown keys are an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, read_yaml, text, whole
from tvm_flow.limits import MAX_ELEMENTS

DEMO = "demo"
"""In the place of a model's path: the model that ships."""
Text = Annotated[str, text()]
Size = Annotated[int, whole(1, MAX_ELEMENTS)]
Latent = Annotated[tuple[Size, Size, Size, Size] | None, described("four positive sizes [C, T, H, W]")]


@dataclass(frozen=True)
class _BuildFile:
    prompts: Text
    recipe: Text
    output: Text
    model: Text = DEMO
    target: Text = "host"
    sampler: Annotated[str | None, text()] = None
    latent: Latent = None
    captions: Annotated[str | None, text()] = None
    autoencoder: Annotated[str | None, text()] = None
    config: Annotated[str | None, text()] = None

    def __post_init__(self) -> None:
        check_fields(self, "")


@dataclass(frozen=True)
class BuildConfig:
    """A parsed build file; paths are absolute."""

    model: Text
    prompts: Path
    recipe: Path
    target: Text
    output: Path
    sampler: Path | None = None
    latent: Latent = None
    captions: Path | None = None
    autoencoder: Path | None = None
    config: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self, "build: ")

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
    values = read_yaml(path, "build file")
    try:
        file = from_mapping(_BuildFile, "", values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if empty := [key for key, value in values.items() if value is None]:
        raise ConfigError(f"{path}: {empty[0]}: expected text, got None; write a value or leave the key out")
    base = path.resolve().parent

    def beside(name: str | None) -> Path | None:
        return None if name is None else base / name

    return BuildConfig(
        model=file.model if file.model == DEMO else str(base / file.model),
        prompts=base / file.prompts,
        recipe=base / file.recipe,
        target=str(base / file.target) if file.target.endswith((".yaml", ".yml")) else file.target,
        output=(base / file.output).resolve(),
        sampler=beside(file.sampler),
        latent=file.latent,
        captions=beside(file.captions),
        autoencoder=beside(file.autoencoder),
        config=beside(file.config),
    )
