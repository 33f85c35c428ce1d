"""The decoder of Open-Sora v1.2's temporal autoencoder: latents in time to latents of single frames.

    x  = conv1(post_quant(z))              1x1x1 of 4 channels, then 3x3x3 to 512
    x  = four residual blocks
    for level 3, 2, 1, 0 of 512, 256, 256 and 128 channels:  four residual blocks, the first of them to that width;
         after levels 3 and 2 a 3x3x3 conv to twice the channels and (C s) T -> C (T s), s = 2
    out = conv_out(silu(group_norm(x)))    3x3x3 to 4 channels

    block(x) = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))      3x3x3 without bias, 32 groups, eps 1e-5

Every convolution is causal: zeros before the first frame only (all kernel - 1 of them), zeros on both sides in space.
The first frames of the result, which the encoder had padded in, are dropped. Order, names and sizes of the layers are
those of the released code (opensora/models/vae/vae_temporal.py, VAE_Temporal_SD); what only encoding needs is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5


@dataclass(frozen=True)
class TemporalConfig:
    """``multipliers`` of ``filters`` for each level, and where the encoder halves time between two levels."""

    channels: int = 4
    filters: int = 128
    blocks: int = 4
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    halves: tuple[bool, ...] = (False, True, True)
    groups: int = 32

    @property
    def factor(self) -> int:
        """Frames for each latent frame: 4 in the released model."""
        return int(2 ** sum(self.halves))


class CausalConv(nn.Module):
    """A 3D convolution that sees the past only."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, bias=bias)
        side = kernel // 2
        self.padding = (side, side, side, side, kernel - 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T, H, W] -> [B, outputs, T, H, W]."""
        out: Tensor = self.conv(nn.functional.pad(x, self.padding))
        return out


class ResBlock(nn.Module):
    """See the module; ``conv3`` is the shortcut where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, NORM_EPS)
        self.conv1 = CausalConv(inputs, outputs, 3, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs, NORM_EPS)
        self.conv2 = CausalConv(outputs, outputs, 3, bias=False)
        self.conv3 = CausalConv(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T, H, W] -> [B, outputs, T, H, W]."""
        inner = self.conv1(nn.functional.silu(self.norm1(x)))
        out: Tensor = self.conv3(x) + self.conv2(nn.functional.silu(self.norm2(inner)))
        return out


class Decoder(nn.Module):
    """[B, channels, T, H, W] -> [B, channels, factor T, H, W]."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        widths = [config.filters * m for m in config.multipliers]
        self.conv1 = CausalConv(config.channels, widths[-1], 3)
        self.res_blocks = nn.ModuleList(ResBlock(widths[-1], widths[-1], config.groups) for _ in range(config.blocks))
        above = [*widths[1:], widths[-1]]
        self.block_res_blocks = nn.ModuleList(
            nn.ModuleList(
                ResBlock(before if block == 0 else width, width, config.groups) for block in range(config.blocks)
            )
            for before, width in zip(above, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv(width, 2 * width, 3) if doubled else nn.Identity()
            for width, doubled in zip(widths[1:], config.halves, strict=True)
        )
        self.norm1 = nn.GroupNorm(config.groups, widths[0], NORM_EPS)
        self.conv_out = CausalConv(widths[0], config.channels, 3)
        self.halves = config.halves

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.conv1(x)
        for block in self.res_blocks:
            x = block(x)
        for level in reversed(range(len(self.block_res_blocks))):
            blocks = self.block_res_blocks[level]
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(x)
            if level > 0 and self.halves[level - 1]:
                x = unfold_time(self.conv_blocks[level - 1](x))
        out: Tensor = self.conv_out(nn.functional.silu(self.norm1(x)))
        return out


class TemporalDecoder(nn.Module):
    """What a checkpoint holds under temporal_vae, but for the encoder."""

    def __init__(self, config: TemporalConfig | None = None) -> None:
        super().__init__()
        self.config = config or TemporalConfig()
        self.post_quant_conv = CausalConv(self.config.channels, self.config.channels, 1)
        self.decoder = Decoder(self.config)

    def forward(self, z: Tensor, frames: int) -> Tensor:
        """z [B, channels, T, H, W] -> the last ``frames`` of [B, channels, factor T, H, W].

        ``frames`` is what the encoder was given: it pads in front to whole multiples of ``factor``.
        """
        out: Tensor = self.decoder(self.post_quant_conv(z))
        return out[:, :, -frames % self.config.factor :]


def unfold_time(x: Tensor) -> Tensor:
    """[B, 2 C, T, H, W] -> [B, C, 2 T, H, W]; the two channels of a pair become neighbouring frames."""
    batch, channels, frames, height, width = x.shape
    pairs = x.reshape(batch, channels // 2, 2, frames, height, width)
    return torch.movedim(pairs, 2, 3).reshape(batch, channels // 2, 2 * frames, height, width)
