"""Open-Sora's autoencoders, from local folders: latents to frames.

v1.0  ``ImageVAE``   sd-vae-ft-ema, a diffusers AutoencoderKL: every frame for itself,
                     frame = decode(z / 0.18215); 8x in space
v1.2  ``VideoVAE``   z scale + shift per channel; the temporal decoder on 5 latent frames (17 frames) at a time; then
                     an SDXL-type AutoencoderKL on every frame, again of z / 0.18215; 4x in time, 8x in space

The folder of the first is diffusers' own (config.json with _class_name AutoencoderKL, and its weights). That of the
second is the released OpenSora-VAE-v1.2: config.json (model_type VideoAutoencoderPipeline) and safetensors with
``spatial_vae.module.*``, ``temporal_vae.*``, ``shift`` and ``scale``. Its config does not say how the spatial part is
built: that is `SPATIAL`, the autoencoder of pixart_sigma_sdxlvae_T5_diffusers that the released code names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.model.weights import read_tensors
from tvm_flow.opensora.extra import folder_config, require, require_complete
from tvm_flow.opensora.temporal import TemporalConfig, TemporalDecoder

LATENT_SCALE = 0.18215
SHIFT = (-0.10, 0.34, 0.27, 0.98)
SCALE = (3.85, 2.32, 2.33, 3.06)
CHUNK = 17
"""Frames that the temporal part encodes and decodes at a time."""
SPATIAL: Mapping[str, Any] = {
    **{"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (128, 256, 512, 512)},
    **{"layers_per_block": 2, "norm_num_groups": 32, "act_fn": "silu", "sample_size": 512},
    **{"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4},
}
_PREFIXES = {"spatial": "spatial_vae.module.", "temporal": "temporal_vae."}


Advance = Callable[[], object]


def nothing() -> None:
    """No progress is wanted."""


class Autoencoder(Protocol):
    """What turns latents into frames."""

    def decode(self, latents: Tensor, frames: int, advance: Advance = nothing) -> Tensor:
        """[B, C, T, h, w] -> float32 [B, frames, H, W, 3] in 0..1; ``advance`` is called after each frame.

        Raises ConfigError for another latent.
        """


@dataclass(frozen=True, eq=False)
class ImageVAE:
    """v1.0: ``module`` is a diffusers AutoencoderKL."""

    module: Any

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: int, advance: Advance = nothing) -> Tensor:
        """See `Autoencoder`; T must be ``frames``."""
        _require_latent(latents, int(self.module.config.latent_channels), frames, frames)
        return _images(self.module, latents, advance)


@dataclass(frozen=True, eq=False)
class VideoVAE:
    """v1.2: ``shift`` and ``scale`` float32 [C] undo the normalisation that the transformer was trained under."""

    spatial: Any
    temporal: TemporalDecoder
    shift: Tensor
    scale: Tensor
    chunk: int = CHUNK

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: int, advance: Advance = nothing) -> Tensor:
        """See `Autoencoder`; T must be `latent_frames`."""
        _require_latent(latents, len(self.shift), self.latent_frames(frames), frames)
        places = (slice(None), None, None, None)
        z = latents.float() * self.scale[places] + self.shift[places]
        step = -(-self.chunk // self.temporal.config.factor)
        parts = [
            self.temporal(z[:, :, start : start + step], min(self.chunk, frames - index * self.chunk))
            for index, start in enumerate(range(0, z.shape[2], step))
        ]
        return _images(self.spatial, torch.cat(parts, 2), advance)

    def latent_frames(self, frames: int) -> int:
        """T of a video: 15 for 51 frames."""
        return chunked_frames(frames, self.chunk, self.temporal.config.factor)


def chunked_frames(frames: int, chunk: int, factor: int) -> int:
    """Latent frames of ``frames``, encoded ``chunk`` at a time, each padded to whole multiples of ``factor``."""
    whole, rest = divmod(frames, chunk)
    return whole * -(-chunk // factor) + -(-rest // factor)


def load_autoencoder(
    folder: Path, spatial: Mapping[str, Any] = SPATIAL, temporal: TemporalConfig | None = None
) -> ImageVAE | VideoVAE:
    """Load the autoencoder in ``folder``, of either version; nothing is fetched.

    ``spatial`` (of an AutoencoderKL) and ``temporal`` say how v1.2's parts are built.

    Raises ConfigError when the extra ``opensora`` is not installed, CheckpointError when the folder is absent, holds
    something else, or a weight is missing or has another shape.
    """
    config = folder_config(folder, "an Open-Sora autoencoder")
    if config.get("_class_name") == "AutoencoderKL":
        return _load_image(folder)
    if config.get("model_type") == "VideoAutoencoderPipeline":
        return _load_video(folder, config, spatial, temporal)
    raise CheckpointError(
        f"{folder / 'config.json'}: expected _class_name AutoencoderKL (v1.0) or model_type VideoAutoencoderPipeline "
        f"(v1.2), got {config.get('_class_name')} and {config.get('model_type')}; give another folder"
    )


def _load_image(folder: Path) -> ImageVAE:
    diffusers = require("diffusers")
    try:
        module, found = diffusers.AutoencoderKL.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            low_cpu_mem_usage=False,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:
        raise CheckpointError(
            f"{folder}: expected a diffusers AutoencoderKL with its weights, got: {error}; fetch it again"
        ) from error
    require_complete(folder, found)
    return ImageVAE(_frozen(module.float()))


def _load_video(
    folder: Path, config: Mapping[str, Any], spatial: Mapping[str, Any], temporal: TemporalConfig | None
) -> VideoVAE:
    state = read_tensors(folder)
    modules = {"spatial": require("diffusers").AutoencoderKL(**spatial), "temporal": TemporalDecoder(temporal)}
    for name, module in modules.items():
        prefix = _PREFIXES[name]
        part = {key.removeprefix(prefix): value.float() for key, value in state.items() if key.startswith(prefix)}
        _fill(folder, prefix, module, part)
    shift = state.get("shift", torch.tensor(SHIFT)).float().flatten()
    scale = state.get("scale", torch.tensor(SCALE)).float().flatten()
    chunk = config.get("micro_frame_size", CHUNK)
    channels = modules["temporal"].config.channels
    if {len(shift), len(scale)} != {channels} or type(chunk) is not int or chunk < 1:
        raise CheckpointError(
            f"{folder}: expected {channels} values of shift and scale and a positive micro_frame_size, got "
            f"{len(shift)} and {len(scale)}, and {chunk!r}; fetch it again"
        )
    return VideoVAE(_frozen(modules["spatial"]), _frozen(modules["temporal"]), shift, scale, chunk)


def _fill(folder: Path, prefix: str, module: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy ``state`` in; keys that decoding does not need may be there, none may be missing or misshapen."""
    need = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    missing = [prefix + key for key in need if key not in state]
    misshapen = [
        f"{prefix}{key} (have {list(state[key].shape)} but require {list(shape)})"
        for key, shape in need.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    require_complete(folder, {"missing_keys": missing, "mismatched_keys": misshapen})
    module.load_state_dict({key: state[key] for key in need})


def _frozen(module: Any) -> Any:
    return module.eval().requires_grad_(False)


def _require_latent(latents: Tensor, channels: int, length: int, frames: int) -> None:
    if latents.ndim != 5 or (latents.shape[1], latents.shape[2]) != (channels, length):
        raise ConfigError(
            f"latents: expected [B, {channels}, {length}, h, w] for {frames} frames, got {list(latents.shape)}; use "
            "the autoencoder that the transformer was trained with, and the frames that it generates"
        )


def _images(module: Any, z: Tensor, advance: Advance) -> Tensor:
    """Frames of [B, C, T, h, w], one at a time to bound memory: float32 [B, T, H, W, 3] in 0..1."""
    videos = [torch.cat(list(_frames(module, video, advance))) for video in z.float()]
    return (torch.stack(videos).permute(0, 1, 3, 4, 2) / 2 + 0.5).clamp(0, 1)


def _frames(module: Any, video: Tensor, advance: Advance) -> Iterator[Tensor]:
    for frame in video.unbind(1):
        yield module.decode(frame[None] / LATENT_SCALE).sample
        advance()
