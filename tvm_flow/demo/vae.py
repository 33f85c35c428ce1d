"""The demo's autoencoder: 4x spatial compression of single frames, 8 latent channels.

It stands where Open-Sora has its video VAE. It is deterministic; latents are standardised per channel with
``shift`` and ``scale``, so that unit Gaussian noise is the right start of the flow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LATENT_CHANNELS = 8
FACTOR = 4


class Residual(nn.Module):
    """x + conv(silu(conv(silu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] -> the same."""
        out: Tensor = x + self.conv2(nn.functional.silu(self.conv1(nn.functional.silu(x))))
        return out


class VAE(nn.Module):
    """PixelUnshuffle(4), residual convolutions, 8 channels; and back."""

    def __init__(self, width: int = 64, channels: int = LATENT_CHANNELS) -> None:
        super().__init__()
        packed = 3 * FACTOR**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(FACTOR),
            nn.Conv2d(packed, width, 3, padding=1),
            Residual(width),
            nn.Conv2d(width, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            Residual(width),
            Residual(width),
            nn.Conv2d(width, packed, 1),
            nn.PixelShuffle(FACTOR),
        )
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def encode(self, video: Tensor) -> Tensor:
        """float [B, T, H, W, 3] in 0..1 -> latent [B, 8, T, H/4, W/4], about zero mean and unit variance."""
        frames = video.flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1
        latent = (self.encoder(frames) - self.shift[:, None, None]) / self.scale[:, None, None]
        out: Tensor = latent.unflatten(0, video.shape[:2]).transpose(1, 2)
        return out

    def decode(self, latent: Tensor) -> Tensor:
        """[B, 8, T, h, w] -> float [B, T, 4h, 4w, 3], clipped to 0..1."""
        frames = latent.transpose(1, 2).flatten(0, 1) * self.scale[:, None, None] + self.shift[:, None, None]
        out: Tensor = self.decoder(frames).permute(0, 2, 3, 1).unflatten(0, (len(latent), -1))
        return (out / 2 + 0.5).clamp(0, 1)
