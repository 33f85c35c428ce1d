"""The autoencoder as shipped, and its training on a few frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tvm_flow.demo import LATENT_SHAPE, load_vae
from tvm_flow.demo.clips import Garments
from tvm_flow.demo.vae import VAE
from tvm_flow.train.train_vae import psnr, random_frames, train_vae

Videos = tuple[Tensor, list[str]]


def test_videos_survive(real_videos: Videos) -> None:
    vae, videos = load_vae(), real_videos[0][::2]
    latent = vae.encode(videos)
    assert latent.shape == (len(videos), *LATENT_SHAPE)
    error = (vae.decode(latent) - videos).square().mean()
    assert -10 * torch.log10(error) > 30


def test_latents_are_standardised(real_videos: Videos) -> None:
    latent = load_vae().encode(real_videos[0])
    assert latent.mean((0, 2, 3, 4)).abs().max() < 0.15
    assert (latent.std((0, 2, 3, 4)) - 1).abs().max() < 0.15


def test_small_latent_errors_stay_small(real_videos: Videos) -> None:
    vae, videos = load_vae(), real_videos[0][::4]
    latent = vae.encode(videos)
    noise = 0.1 * torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    assert (vae.decode(latent + noise) - videos).square().mean() < 4e-3


def test_frames_are_coded_alone(real_videos: Videos) -> None:
    vae, videos = load_vae(), real_videos[0][:3]
    latent = vae.encode(videos)
    torch.testing.assert_close(vae.encode(videos[:, 2:4]), latent[:, :, 2:4], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vae.decode(latent[1:, :, 5:]), vae.decode(latent)[1:, 5:], atol=1e-5, rtol=1e-4)


def test_decoded_values_are_clipped() -> None:
    decoded = load_vae().decode(20 * torch.randn(1, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0)))
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_shift_and_scale_cancel() -> None:
    torch.manual_seed(0)
    vae = VAE(width=8).eval()
    video = torch.rand(1, 2, 8, 8, 3)
    before = vae.decode(vae.encode(video)).detach()
    vae.shift.fill_(0.7)
    vae.scale.fill_(3.0)
    torch.testing.assert_close(vae.decode(vae.encode(video)), before)


def test_training_improves_and_writes(tmp_path: Path, garments: Garments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm_flow.train.train_vae.POOL", 64)
    frames = random_frames(garments, 16, torch.Generator().manual_seed(9))
    torch.manual_seed(0)
    untrained = psnr(VAE(), frames)
    vae = train_vae(garments, tmp_path / "vae.safetensors", steps=25, batch=16)
    assert psnr(vae, frames) > untrained + 3
    stored = load_file(tmp_path / "vae.safetensors")
    assert stored.keys() == vae.state_dict().keys()
    assert (stored["scale"] > 0).all()


def test_random_frames_show_one_garment(garments: Garments) -> None:
    frames = random_frames(garments, 12, torch.Generator().manual_seed(1))
    assert frames.shape == (12, 1, 32, 32, 3)
    assert frames.amin() >= 0
    assert (frames.amax((1, 2, 3, 4)) > 0.9).all()
