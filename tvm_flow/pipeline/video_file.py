"""Videos as files: H.264 in MP4, animated GIF, WebP and PNG, or a folder with one PNG for each frame.

MP4 is what every player, browser and phone shows. It is written by PyAV, whose wheels bring FFmpeg and x264 with them.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from tvm_flow.artifact import atomic_path
from tvm_flow.demo.sheet import ANIMATIONS, Frames, enlarge, to_uint8, write_animation
from tvm_flow.errors import ConfigError
from tvm_flow.folders import new_directory

FORMATS = {"mp4": ".mp4", "gif": ".gif", "webp": ".webp", "apng": ".apng", "png": ""}
"""What `--format` names, and the suffix of its files; the frames of ``png`` lie in a folder without one."""
SUFFIXES = (".mp4", *ANIMATIONS)
SHOWN_WIDTH = 256
"""Smaller videos are enlarged by a whole factor to about this width; frames in a folder are left as they are."""
_QUALITY = {"crf": "16", "preset": "slow"}
"""x264's: a picture that cannot be told from its source, however much room that takes."""
_BT709 = 1
"""The number of this colour space in H.264's tables E-3 to E-5, and of its primaries and transfer."""
_LIMITED = 1
"""FFmpeg's number of the range 16..235."""


def write_video(output: Path, video: Tensor, fps: float) -> None:
    """Write ``video`` [T, H, W, 3], uint8 or float in 0..1, to ``output``, whole or not at all.

    The suffix of ``output`` says how; without one it becomes a folder of PNG frames. Raises ConfigError for another
    suffix or shape.
    """
    zoom = max(1, SHOWN_WIDTH // video.shape[2]) if video.ndim == 4 else 1
    suffix = output.suffix.lower()
    if suffix in ANIMATIONS:
        write_animation(output, video, fps, zoom)
        return
    if suffix not in ("", ".mp4"):
        raise ConfigError(f"{output}: expected one of {', '.join(SUFFIXES)}, got {suffix!r}; rename the output")
    if video.ndim != 4 or video.shape[-1] != 3:
        raise ConfigError(f"video: expected [T, H, W, 3], got {list(video.shape)}")
    if suffix:
        _write_mp4(output, to_uint8(video), fps, zoom)
    else:
        _write_frames(output, to_uint8(video))


def _write_frames(output: Path, video: Frames) -> None:
    with new_directory(output) as folder:
        for number, frame in enumerate(video):
            enlarge(frame, 1).save(folder / f"{number:04d}.png")


def _write_mp4(output: Path, video: Frames, fps: float, zoom: int) -> None:
    import av  # a tenth of a second, and only here

    video = _even(video.repeat(zoom, 1).repeat(zoom, 2))
    with atomic_path(output) as path, path.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=_QUALITY)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"  # all that hardware decoders take
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        for pixels in video:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            # Untagged, players guess the colour space from the height of the picture.
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())


def _even(video: Frames) -> Frames:
    """One more row or column where their number is odd, as the last one: colours of yuv420p are 2x2 pixels' each."""
    odd = [(0, 0), *((0, size % 2) for size in video.shape[1:3]), (0, 0)]
    return np.pad(video, odd, mode="edge")
