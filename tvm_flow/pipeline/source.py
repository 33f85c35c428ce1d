"""What a build starts from: a float model, its sampler, the shape of its latent, and how captions become tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvm_flow.calibrate.run import Embed
from tvm_flow.demo import LATENT_SHAPE, WEIGHTS, demo_sampler, load_captions, load_vae
from tvm_flow.errors import ConfigError
from tvm_flow.export.decoder import AnyDecoder
from tvm_flow.fields import read_yaml
from tvm_flow.model import AnyModel, load_checkpoint
from tvm_flow.opensora import load_autoencoder, load_embeddings
from tvm_flow.pipeline.config import DEMO
from tvm_flow.pipeline.geometry import check_geometry
from tvm_flow.sampler import SamplerConfig

TRAINED_FOR = {"STDiT": ("iddpm", "ddim"), "STDiT3": ("rflow",)}
"""Samplers by the config's model_type: an STDiT predicts noise, an STDiT3 the velocity of a rectified flow."""


@dataclass(frozen=True)
class Source:
    """A float model ready to be calibrated. ``latent`` is [C, T, H, W]."""

    model: AnyModel
    sampler: SamplerConfig
    latent: tuple[int, int, int, int]
    embed: Embed
    decoder: AnyDecoder | None = None
    """Exported with the step graphs, so that a bundle ends in frames."""


@dataclass(frozen=True)
class SourceFiles:
    """What `load_source` is asked for, to be loaded here or elsewhere."""

    model: str = DEMO
    sampler: Path | None = None
    latent: tuple[int, int, int, int] | None = None
    captions: Path | None = None
    autoencoder: Path | None = None
    config: Path | None = None

    def load(self) -> Source:
        return load_source(self.model, self.sampler, self.latent, self.captions, self.autoencoder, self.config)

    def absolute(self) -> SourceFiles:
        """The same from any working folder."""
        model = self.model if self.model == DEMO else str(Path(self.model).absolute())
        paths = [path and path.absolute() for path in (self.sampler, self.captions, self.autoencoder, self.config)]
        return SourceFiles(model, paths[0], self.latent, *paths[1:])


def load_source(
    model: str = DEMO,
    sampler: Path | None = None,
    latent: tuple[int, int, int, int] | None = None,
    captions: Path | None = None,
    autoencoder: Path | None = None,
    config: Path | None = None,
) -> Source:
    """The demo, or a checkpoint folder or file with a sampler YAML, a latent shape and prompt embeddings.

    ``captions`` is a file of `tvm_flow.opensora.embeddings`, or a folder with one; the demo has its own, and takes
    others. ``autoencoder`` is a folder for `load_autoencoder`, for a bundle that is to end in frames; the demo has its
    own. ``config`` is a config.json for a checkpoint that has none.

    Raises ConfigError naming what a checkpoint other than the demo lacks, what the demo does not need, a sampler that
    the model was not trained for, or a latent that is not of the sampler's video; CheckpointError for a bad checkpoint;
    PromptError for embeddings that are unreadable or of another shape.
    """
    given = {"sampler": sampler, "latent": latent, "captions": captions}
    if model == DEMO:
        own = given | {"autoencoder": autoencoder, "config": config}
        unused = [name for name, value in own.items() if value is not None and name != "captions"]
        if unused:
            raise ConfigError(
                f"model {DEMO}: expected no {' or '.join(unused)}, because the demo knows its own; leave it out"
            )
        demo = load_checkpoint(WEIGHTS)
        embed = load_captions().batch if captions is None else _embeddings(captions, demo)
        return Source(demo, demo_sampler(), LATENT_SHAPE, embed, load_vae())
    missing = [name for name, value in given.items() if value is None]
    if sampler is None or latent is None or captions is None:
        raise ConfigError(
            f"model {model}: expected {', '.join(missing)} beside it, got none; only the demo knows its own"
        )
    grid = read_sampler(sampler)  # before gigabytes are read
    loaded = load_checkpoint(Path(model), config)
    wanted = TRAINED_FOR[loaded.config.model_type]
    if grid.name not in wanted:
        raise ConfigError(
            f"{sampler}: name: expected {' or '.join(wanted)} for an {loaded.config.model_type}, which was "
            f"trained for no other, got {grid.name!r}; name one of them"
        )
    decoder = None if autoencoder is None else load_autoencoder(autoencoder)
    check_geometry(loaded.config, grid, latent, decoder)
    return Source(loaded, grid, latent, _embeddings(captions, loaded), decoder)


def _embeddings(path: Path, model: AnyModel) -> Embed:
    found = load_embeddings(path)
    found.require_shape(model.config.model_max_length, model.config.caption_channels)
    return found.batch


def read_sampler(path: Path) -> SamplerConfig:
    """A sampler configuration from YAML; raises ConfigError naming the file and the key."""
    values = read_yaml(path, "sampler")
    try:
        return SamplerConfig.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
