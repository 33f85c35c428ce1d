"""Whether latent, frames, height, width and autoencoder are of one video.

A latent of another size than the sampler's video still runs: its positions and its timestep transform are those of
another video, and nothing in the numbers shows it. Sizes follow the autoencoder that encodes a video:

    demo         channels, frames, height / 4, width / 4
    v1.0         the same with 8: every frame for itself
    v1.2         height / 8, width / 8; 17 frames become 5, of what is left over every 4 one (`VideoVAE.latent_frames`)

Height and width are divided without remainder, as Open-Sora does (426 pixels are 53 places).
"""

from __future__ import annotations

import logging

from tvm_flow.demo.vae import FACTOR, VAE
from tvm_flow.errors import ConfigError
from tvm_flow.export.decoder import AnyDecoder
from tvm_flow.model.config import ModelConfig
from tvm_flow.opensora.autoencoder import CHUNK, ImageVAE, chunked_frames
from tvm_flow.opensora.temporal import TemporalConfig
from tvm_flow.sampler import SamplerConfig

Latent = tuple[int, int, int, int]
OPENSORA_FACTOR = 8

log = logging.getLogger(__name__)


def check_geometry(config: ModelConfig, sampler: SamplerConfig, latent: Latent, decoder: AnyDecoder | None) -> None:
    """Compare ``latent`` [C, T, H, W] with the model, the sampler's video and, where it is known, the autoencoder.

    Raises ConfigError for a latent that these contradict. Without an autoencoder, sizes that are not those of
    Open-Sora's for such a model are a warning.
    """
    if latent[0] != config.in_channels:
        raise ConfigError(
            f"latent: expected {config.in_channels} channels for this model, got {list(latent)}; correct the first size"
        )
    sampler.guided_of(latent[0])
    video = f"{sampler.frames} frames of {sampler.height} x {sampler.width} pixels"
    if decoder is not None:
        want = latent_of(decoder, sampler)
        if latent != want:
            raise ConfigError(
                f"latent: expected {list(want)} for {video} and this autoencoder, got {list(latent)}; correct latent, "
                "frames, height or width, or give the autoencoder that the model was trained with"
            )
        return
    usual = (_usual_frames(config, sampler.frames), *_places(sampler, OPENSORA_FACTOR))
    if latent[1:] != usual:
        log.warning(
            "latent %s: Open-Sora's autoencoder makes [%d, %d, %d, %d] of %s; if the model's own does not make this "
            "latent of such a video, positions and timesteps are wrong: correct latent, frames, height or width",
            *(list(latent), latent[0], *usual, video),
        )


def latent_of(decoder: AnyDecoder, sampler: SamplerConfig) -> Latent:
    """[C, T, H, W] of the sampler's video."""
    if isinstance(decoder, VAE):
        return (len(decoder.scale), sampler.frames, *_places(sampler, FACTOR))
    if isinstance(decoder, ImageVAE):
        settings = decoder.module.config
        return (int(settings.latent_channels), sampler.frames, *_places(sampler, _halvings(settings)))
    frames = decoder.latent_frames(sampler.frames)
    return (len(decoder.shift), frames, *_places(sampler, _halvings(decoder.spatial.config)))


def _usual_frames(config: ModelConfig, frames: int) -> int:
    return frames if config.model_type == "STDiT" else chunked_frames(frames, CHUNK, TemporalConfig().factor)


def _halvings(settings: object) -> int:
    """An AutoencoderKL halves height and width between two widths."""
    return int(2 ** (len(settings.block_out_channels) - 1))  # type: ignore[attr-defined]


def _places(sampler: SamplerConfig, factor: int) -> tuple[int, int]:
    return sampler.height // factor, sampler.width // factor
