"""The decoder's graph: latents to frames, written from the weights of an autoencoder.

Input    latents  float32 [C, chunk, h, w]    so many latent frames of a video
Output   frames   float32 [F, H, W, 3]        in 0..1; F is chunk, or what v1.2's temporal decoder makes of it

    demo        x scale + shift, convolutions, pixel shuffle            (tvm_flow/demo/vae.py)
    ImageVAE    z / 0.18215, an AutoencoderKL's decoder                 (v1.0)
    VideoVAE    z scale + shift, temporal decoder, / 0.18215, an AutoencoderKL's decoder on every frame     (v1.2)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from torch import nn

from tvm_flow.demo.vae import FACTOR, VAE
from tvm_flow.errors import ExportError
from tvm_flow.export.images import Floats, Images, ImageWriter
from tvm_flow.export.writer import GraphWriter, WeightFile
from tvm_flow.opensora.autoencoder import LATENT_SCALE, ImageVAE, VideoVAE
from tvm_flow.opensora.temporal import NORM_EPS

AnyDecoder = VAE | ImageVAE | VideoVAE
KL_EPS = 1e-6
"""Of every norm of an AutoencoderKL's decoder."""


@dataclass(frozen=True)
class DecoderGraph:
    """An ONNX model whose weights are in a `WeightFile`, and its shapes."""

    model: onnx.ModelProto
    latents: tuple[int, int, int, int]
    frames: tuple[int, int, int, int]


def decoder_graph(module: AnyDecoder, latents: tuple[int, int, int, int], weights: WeightFile) -> DecoderGraph:
    """The graph that decodes ``latents`` [C, chunk, h, w] at once.

    Raises ExportError when ``latents`` are not those of ``module``, or it is built in a way that cannot be written.
    """
    for kind, (parameters, write) in _DECODERS.items():
        if isinstance(module, kind):
            g = GraphWriter(weights)
            images = ImageWriter(g, parameters(module))
            frames, shape = write(images, module, _split(g, latents))
            return DecoderGraph(g.model({"latents": latents}, frames, shape, "frames"), latents, shape)
    raise ExportError(f"decoder: expected a {' or '.join(k.__name__ for k in _DECODERS)}, got {type(module).__name__}")


def _split(g: GraphWriter, latents: tuple[int, int, int, int]) -> Images:
    """[C, T, h, w] as T images."""
    channels, frames, height, width = latents
    return Images(g.transpose("latents", 1, 0, 2, 3), frames, channels, height, width)


def _arrays(module: nn.Module, prefix: str = "") -> dict[str, Floats]:
    return {prefix + key: value.detach().float().numpy() for key, value in module.state_dict().items()}


def _demo(images: ImageWriter, module: VAE, x: Images) -> tuple[str, tuple[int, int, int, int]]:
    _require_channels(x, len(module.scale))
    x = images.affine(x, images.params["scale"], images.params["shift"])
    x = images.conv(x, "decoder.0")
    for block in ("decoder.1", "decoder.2"):
        inner = images.silu(images.conv(images.silu(x), f"{block}.conv1"))
        x = images.add(x, images.conv(inner, f"{block}.conv2"))
    x = images.conv(x, "decoder.3")
    g, (n, _, h, w) = images.g, x.shape
    spread = g.transpose(g.reshape(x.name, n, 3, FACTOR, FACTOR, h, w), 0, 4, 2, 5, 3, 1)
    shape = (n, FACTOR * h, FACTOR * w, 3)
    return images.unit(g.reshape(spread, *shape)), shape


def _image(images: ImageWriter, module: ImageVAE, x: Images) -> tuple[str, tuple[int, int, int, int]]:
    return _kl(images, module.module, x, "")


def _video(images: ImageWriter, module: VideoVAE, x: Images) -> tuple[str, tuple[int, int, int, int]]:
    config = module.temporal.config
    if x.count != -(-module.chunk // config.factor):
        raise ExportError(
            f"decoder: expected {-(-module.chunk // config.factor)} latent frames at a time, got {x.count}; change the "
            "chunk, which the temporal decoder's norms span"
        )
    x = images.affine(x, images.params["scale"], images.params["shift"])
    x = images.causal(images.causal(x, "post_quant_conv.conv"), "decoder.conv1.conv")
    names = [f"res_blocks.{b}" for b in range(config.blocks)]
    for level in reversed(range(len(config.multipliers))):
        names += [f"block_res_blocks.{level}.{b}" for b in range(config.blocks)]
        for name in names:
            x = _causal_block(images, x, f"decoder.{name}", config.groups)
        if level > 0 and config.halves[level - 1]:
            x = _unfold_time(images, images.causal(x, f"decoder.conv_blocks.{level - 1}.conv"))
        names = []
    x = images.silu(images.norm(x, "decoder.norm1", config.groups, NORM_EPS, clip=True))
    x = images.causal(x, "decoder.conv_out.conv")
    return _kl(images, module.spatial, images.frames(x, -module.chunk % config.factor, x.count), "spatial.")


def _causal_block(images: ImageWriter, x: Images, name: str, groups: int) -> Images:
    inner = images.causal(
        images.silu(images.norm(x, f"{name}.norm1", groups, NORM_EPS, clip=True)), f"{name}.conv1.conv"
    )
    inner = images.silu(images.norm(inner, f"{name}.norm2", groups, NORM_EPS, clip=True))
    shortcut = images.causal(x, f"{name}.conv3.conv") if f"{name}.conv3.conv.weight" in images.params else x
    return images.add(images.causal(inner, f"{name}.conv2.conv"), shortcut)


def _unfold_time(images: ImageWriter, x: Images) -> Images:
    g, (n, c, h, w) = images.g, x.shape
    pairs = g.transpose(g.reshape(x.name, n, c // 2, 2, h, w), 0, 2, 1, 3, 4)
    return Images(g.reshape(pairs, 2 * n, c // 2, h, w), 2 * n, c // 2, h, w)


def _kl(images: ImageWriter, module: Any, x: Images, prefix: str) -> tuple[str, tuple[int, int, int, int]]:
    """An AutoencoderKL's decoder on x / 0.18215, under diffusers' names."""
    config = module.config
    if any(kind != "UpDecoderBlock2D" for kind in config.up_block_types) or config.act_fn != "silu":
        raise ExportError(
            f"decoder: expected UpDecoderBlock2D blocks with silu, got {list(config.up_block_types)} with "
            f"{config.act_fn}; only Open-Sora's kind of AutoencoderKL can be exported"
        )
    _require_channels(x, int(config.latent_channels))
    groups = int(config.norm_num_groups)
    scale = np.full(x.channels, 1.0 / LATENT_SCALE, np.float32)
    x = x.named(images.g.op("Mul", [x.name, images.channels("latent.unscale", scale)]))
    if f"{prefix}post_quant_conv.weight" in images.params:
        x = images.conv(x, f"{prefix}post_quant_conv")
    x = images.conv(x, f"{prefix}decoder.conv_in")
    x = _kl_block(images, x, f"{prefix}decoder.mid_block.resnets.0", groups)
    if f"{prefix}decoder.mid_block.attentions.0.to_q.weight" in images.params:
        x = images.attention(x, f"{prefix}decoder.mid_block.attentions.0", groups, KL_EPS)
    x = _kl_block(images, x, f"{prefix}decoder.mid_block.resnets.1", groups)
    for level in range(len(config.block_out_channels)):
        for block in range(config.layers_per_block + 1):
            x = _kl_block(images, x, f"{prefix}decoder.up_blocks.{level}.resnets.{block}", groups)
        if level < len(config.block_out_channels) - 1:
            x = images.conv(images.twice(x), f"{prefix}decoder.up_blocks.{level}.upsamplers.0.conv")
    x = images.silu(images.norm(x, f"{prefix}decoder.conv_norm_out", groups, KL_EPS))
    x = images.conv(x, f"{prefix}decoder.conv_out")
    return images.pixels(x), (x.count, x.height, x.width, 3)


def _kl_block(images: ImageWriter, x: Images, name: str, groups: int) -> Images:
    inner = images.conv(images.silu(images.norm(x, f"{name}.norm1", groups, KL_EPS)), f"{name}.conv1")
    inner = images.conv(images.silu(images.norm(inner, f"{name}.norm2", groups, KL_EPS)), f"{name}.conv2")
    shortcut = images.conv(x, f"{name}.conv_shortcut") if f"{name}.conv_shortcut.weight" in images.params else x
    return images.add(shortcut, inner)


def _require_channels(x: Images, channels: int) -> None:
    if x.channels != channels:
        raise ExportError(f"decoder: expected latents of {channels} channels, got {x.channels}; give their own decoder")


def _video_arrays(module: VideoVAE) -> dict[str, Floats]:
    own = {"scale": module.scale.numpy(), "shift": module.shift.numpy()}
    return {**_arrays(module.temporal), **_arrays(module.spatial, "spatial."), **own}


_Write = Callable[[ImageWriter, Any, Images], tuple[str, tuple[int, int, int, int]]]
_DECODERS: dict[type, tuple[Callable[[Any], dict[str, Floats]], _Write]] = {
    VAE: (_arrays, _demo),
    ImageVAE: (lambda module: _arrays(module.module), _image),
    VideoVAE: (_video_arrays, _video),
}
