"""Latent, frames, height, width and autoencoder of one video: what contradicts is refused, what is unknown is said."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from tvm_flow.demo import LATENT_SHAPE, demo_sampler, load_vae
from tvm_flow.errors import ConfigError
from tvm_flow.model import STDIT3_XL_2, STDIT_XL_2, STDiT3Config
from tvm_flow.opensora.autoencoder import ImageVAE, VideoVAE
from tvm_flow.opensora.temporal import TemporalConfig, TemporalDecoder
from tvm_flow.pipeline.geometry import check_geometry, latent_of
from tvm_flow.sampler import SamplerConfig

KL = SimpleNamespace(config=SimpleNamespace(latent_channels=4, block_out_channels=(128, 256, 512, 512)))
SMALL = TemporalConfig(filters=4, blocks=1, groups=2)
IMAGE = ImageVAE(KL)
VIDEO = VideoVAE(KL, TemporalDecoder(SMALL), torch.zeros(4), torch.ones(4))
V12 = SamplerConfig(frames=51, height=240, width=426)
V10 = SamplerConfig(name="iddpm", frames=16, height=512, width=512)


def test_the_latents_that_open_sora_makes() -> None:
    assert latent_of(VIDEO, V12) == (4, 15, 30, 53)
    assert latent_of(IMAGE, V10) == (4, 16, 64, 64)
    assert latent_of(load_vae(), demo_sampler()) == LATENT_SHAPE


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (4, 1), (5, 2), (17, 5), (18, 6), (34, 10), (51, 15)])
def test_seventeen_frames_become_five(frames: int, latents: int) -> None:
    assert latent_of(VIDEO, SamplerConfig(frames=frames))[1] == latents


@pytest.mark.parametrize(
    ("decoder", "sampler", "latent", "wanted"),
    [
        (IMAGE, SamplerConfig(name="iddpm", frames=17, height=64, width=64), (4, 5, 8, 8), r"\[4, 17, 8, 8\]"),
        (VIDEO, SamplerConfig(frames=17, height=64, width=64), (4, 17, 8, 8), r"\[4, 5, 8, 8\]"),
        (VIDEO, SamplerConfig(frames=17, height=64, width=64), (4, 5, 16, 8), r"\[4, 5, 8, 8\]"),
        (IMAGE, SamplerConfig(name="iddpm", frames=2, height=64, width=64), (4, 2, 8, 9), r"\[4, 2, 8, 8\]"),
    ],
)
def test_a_latent_that_the_autoencoder_does_not_make_is_refused(
    decoder: ImageVAE | VideoVAE, sampler: SamplerConfig, latent: tuple[int, int, int, int], wanted: str
) -> None:
    with pytest.raises(ConfigError, match=rf"latent: expected {wanted} for {sampler.frames} frames of 64 x 64 pixels"):
        check_geometry(STDIT3_XL_2, sampler, latent, decoder)


@pytest.mark.parametrize("decoder", [None, VIDEO])
def test_channels_are_those_of_the_model(decoder: VideoVAE | None) -> None:
    with pytest.raises(ConfigError, match=r"latent: expected 4 channels for this model, got \[8, 15, 30, 53\]"):
        check_geometry(STDIT3_XL_2, V12, (8, 15, 30, 53), decoder)


def test_guided_channels_beyond_the_latent_are_refused_before_any_work() -> None:
    config = STDiT3Config(depth=1, hidden=16, heads=2, in_channels=2)
    with pytest.raises(ConfigError, match="guided_channels: expected at most the 2 channels"):
        check_geometry(config, V10, (2, 16, 64, 64), None)


@pytest.mark.parametrize(
    ("config", "sampler", "latent"),
    [(STDIT3_XL_2, V12, (4, 15, 30, 53)), (STDIT_XL_2, V10, (4, 16, 64, 64))],
)
def test_what_open_sora_makes_is_taken_in_silence(
    config: STDiT3Config, sampler: SamplerConfig, latent: tuple[int, int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    check_geometry(config, sampler, latent, None)
    assert not caplog.records


@pytest.mark.parametrize("latent", [(4, 6, 30, 53), (4, 15, 30, 54), (4, 51, 30, 53)])
def test_without_an_autoencoder_an_odd_latent_is_one_warning(
    latent: tuple[int, int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_geometry(STDIT3_XL_2, V12, latent, None)
    (record,) = caplog.records
    assert f"latent {list(latent)}: Open-Sora's autoencoder makes [4, 15, 30, 53] of 51 frames" in record.message
