"""What a person looks at: contact sheets of several versions of the same videos, and animated files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tvm_flow.artifact import atomic_path
from tvm_flow.errors import ConfigError

Frames = NDArray[np.uint8]
LABEL, MARGIN, GAP = 18, 44, 6
"""Pixels: height of a prompt's line, width of the row names, space between prompts."""
ANIMATIONS = {".gif": "GIF", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP"}
GIF_FPS = 50.0
"""GIF counts hundredths of a second, and viewers show a frame of one, or of none, for ten."""
INK, PAPER = (20, 20, 20), (255, 255, 255)


def to_uint8(videos: Tensor) -> Frames:
    """Videos, float in 0..1 or uint8 -> uint8 of the same shape; floats are rounded to nearest."""
    if videos.dtype == torch.uint8:
        return videos.numpy()
    return (videos.float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def contact_sheet(output: Path, prompts: Sequence[str], versions: Mapping[str, Tensor], zoom: int = 3) -> None:
    """Write a PNG: for each prompt its text, then one row of all frames per version, in the mapping's order.

    ``versions`` maps a row name ("FP32", "int8") to videos [N, T, H, W, 3], one a prompt, all of one shape.
    Raises ConfigError when a version has another shape or count.
    """
    rows = {name: to_uint8(videos) for name, videos in versions.items()}
    shape = _common_shape(rows, len(prompts))
    frames, height, width = shape[1], shape[2] * zoom, shape[3] * zoom
    block = LABEL + len(rows) * (height + 2) + GAP
    sheet = Image.new("RGB", (MARGIN + frames * (width + 2), len(prompts) * block), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for number, prompt in enumerate(prompts):
        top = number * block
        draw.text((MARGIN, top + 2), prompt, INK, font)
        for line, (name, videos) in enumerate(rows.items()):
            y = top + LABEL + line * (height + 2)
            draw.text((4, y + height // 2 - 6), name, INK, font)
            for t, frame in enumerate(videos[number]):
                sheet.paste(enlarge(frame, zoom), (MARGIN + t * (width + 2), y))
    with atomic_path(output) as path:
        sheet.save(path, format="PNG")


def write_animation(output: Path, video: Tensor, fps: float, zoom: int = 8) -> None:
    """Write one video [T, H, W, 3], uint8 or float in 0..1, as a looping GIF, WebP or animated PNG, by its suffix.

    It lasts T / fps; a GIF above ``GIF_FPS`` leaves frames out. Raises ConfigError for another suffix or shape.
    """
    suffix = output.suffix.lower()
    if suffix not in ANIMATIONS:
        raise ConfigError(f"{output}: expected one of {sorted(ANIMATIONS)}, got {output.suffix!r}; rename the output")
    if video.ndim != 4 or video.shape[-1] != 3:
        raise ConfigError(f"video: expected [T, H, W, 3], got {list(video.shape)}")
    shown, lengths = gif_timing(len(video), fps) if suffix == ".gif" else (range(len(video)), _lengths(video, fps))
    first, *rest = [enlarge(frame, zoom) for frame in to_uint8(video)[list(shown)]]
    how = {"lossless": True} if suffix == ".webp" else {}
    with atomic_path(output) as path:
        first.save(
            path, format=ANIMATIONS[suffix], save_all=True, append_images=rest, duration=list(lengths), loop=0, **how
        )


def gif_timing(frames: int, fps: float) -> tuple[list[int], list[int]]:
    """Which of ``frames`` frames a GIF shows, and for how many milliseconds, each a multiple of ten.

    A frame ends at the hundredth of a second nearest to its own end, so that lengths alternate and errors do not add
    up. Above ``GIF_FPS`` it shows what the video shows every 20 ms.
    """
    if fps <= GIF_FPS:
        ends = [round(100 * (k + 1) / fps) for k in range(frames)]
        return list(range(frames)), [10 * (end - start) for start, end in pairwise([0, *ends])]
    count = max(1, round(GIF_FPS * frames / fps))
    return [min(frames - 1, int(k * fps / GIF_FPS)) for k in range(count)], [round(1000 / GIF_FPS)] * count


def _lengths(video: Tensor, fps: float) -> list[int]:
    """Milliseconds of every frame, ending at the one nearest to the frame's own end."""
    ends = [round(1000 * (k + 1) / fps) for k in range(len(video))]
    return [end - start for start, end in pairwise([0, *ends])]


def enlarge(frame: Frames, zoom: int) -> Image.Image:
    """One frame uint8 [H, W, 3], every pixel ``zoom`` times as wide and high."""
    return Image.fromarray(np.ascontiguousarray(frame.repeat(zoom, 0).repeat(zoom, 1)))


def _common_shape(rows: Mapping[str, Frames], count: int) -> tuple[int, ...]:
    shapes = {name: tuple(videos.shape) for name, videos in rows.items()}
    if not shapes or len(set(shapes.values())) > 1:
        raise ConfigError(f"contact sheet: expected versions of one shape, got {shapes}")
    shape = next(iter(shapes.values()))
    if len(shape) != 5 or shape[0] != count or shape[-1] != 3:
        raise ConfigError(f"contact sheet: expected [{count}, T, H, W, 3] for {count} prompts, got {list(shape)}")
    return shape
