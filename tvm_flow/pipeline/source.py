"""What a build starts from: a float model, its sampler, the shape of its latent, and how captions become tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from tvm_flow.calibrate.run import Embed
from tvm_flow.demo import LATENT_SHAPE, WEIGHTS, demo_sampler, load_captions
from tvm_flow.errors import ConfigError
from tvm_flow.model import AnyModel, load_checkpoint
from tvm_flow.sampler import SamplerConfig

DEMO = "demo"
TRAINED_FOR = {"STDiT": ("iddpm", "ddim"), "STDiT3": ("rflow",)}
"""Samplers by the config's model_type: an STDiT predicts noise, an STDiT3 the velocity of a rectified flow."""


@dataclass(frozen=True)
class Source:
    """A float model ready to be calibrated. ``latent`` is [C, T, H, W]."""

    model: AnyModel
    sampler: SamplerConfig
    latent: tuple[int, int, int, int]
    embed: Embed


def load_source(
    model: str = DEMO,
    sampler: Path | None = None,
    latent: tuple[int, int, int, int] | None = None,
    captions: Path | None = None,
) -> Source:
    """The demo, or a checkpoint folder or file with a sampler YAML, a latent shape and a folder of caption tokens.

    Raises ConfigError naming what a checkpoint other than the demo lacks, what the demo does not need, or a sampler
    that the model was not trained for; CheckpointError for a bad checkpoint.
    """
    given = {"sampler": sampler, "latent": latent, "captions": captions}
    if model == DEMO:
        unused = [name for name, value in given.items() if value is not None]
        if unused:
            raise ConfigError(
                f"model {DEMO}: expected no {' or '.join(unused)}, because the demo knows its own; leave it out"
            )
        return Source(load_checkpoint(WEIGHTS), demo_sampler(), LATENT_SHAPE, load_captions().batch)
    missing = [name for name, value in given.items() if value is None]
    if sampler is None or latent is None or captions is None:
        raise ConfigError(
            f"model {model}: expected {', '.join(missing)} beside it, got none; only the demo knows its own"
        )
    source = Source(load_checkpoint(Path(model)), read_sampler(sampler), latent, load_captions(captions).batch)
    wanted = TRAINED_FOR[source.model.config.model_type]
    if source.sampler.name not in wanted:
        raise ConfigError(
            f"{sampler}: name: expected {' or '.join(wanted)} for an {source.model.config.model_type}, which was "
            f"trained for no other, got {source.sampler.name!r}; name one of them"
        )
    return source


def read_sampler(path: Path) -> SamplerConfig:
    """A sampler configuration from YAML; raises ConfigError naming the file and the key."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a readable YAML file, got: {error}; check the path") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sampler keys, got {type(values).__name__}")
    try:
        return SamplerConfig.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
