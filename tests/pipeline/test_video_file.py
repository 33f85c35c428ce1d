"""Video files, read back by a decoder: frames, rate, length and colours."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tvm_flow.cli.parser import make_parser
from tvm_flow.demo.sheet import to_uint8
from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.video_file import FORMATS, SHOWN_WIDTH, write_video


def smooth(frames: int = 6, height: int = 32, width: int = 32) -> Tensor:
    """Colours that run over the picture and in time, as in a film: float [T, H, W, 3]."""
    t, y, x = torch.meshgrid(*(torch.linspace(0, 1, size) for size in (frames, height, width)), indexing="ij")
    return torch.stack([x, y, t], dim=-1)


def read_mp4(path: Path) -> tuple[NDArray[np.uint8], Fraction, float]:
    """Frames [T, H, W, 3], frames a second and the seconds that it lasts."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate is not None and container.duration is not None
        return np.stack(frames), stream.average_rate, container.duration / av.time_base


@pytest.mark.parametrize(("fps", "rate"), [(8.0, 8), (24.0, 24), (23.976, Fraction(2997, 125)), (60.0, 60), (120, 120)])
def test_an_mp4_has_all_frames_at_their_rate(tmp_path: Path, fps: float, rate: Fraction) -> None:
    write_video(tmp_path / "clip.mp4", smooth(30, 16, 16), fps)
    frames, found, seconds = read_mp4(tmp_path / "clip.mp4")
    assert (len(frames), found) == (30, rate)
    assert seconds == pytest.approx(30 / fps, abs=0.002)


def test_an_mp4_keeps_the_colours(tmp_path: Path) -> None:
    """What 8 bits of limited range and x264 at its quality cost, and no shift of a wrong colour space (10 and more)."""
    write_video(tmp_path / "clip.mp4", smooth(6, 256, 256), 8)
    frames, *_ = read_mp4(tmp_path / "clip.mp4")
    apart = np.abs(frames.astype(int) - to_uint8(smooth(6, 256, 256)))
    assert apart.mean() < 2
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.colorspace), int(context.color_primaries), int(context.color_range)) == (1, 1, 1)


def test_small_videos_are_enlarged_and_odd_sizes_take_one_pixel_more(tmp_path: Path) -> None:
    write_video(tmp_path / "small.mp4", smooth(2, 8, 16), 8)
    assert read_mp4(tmp_path / "small.mp4")[0].shape == (2, 128, 256, 3)
    write_video(tmp_path / "odd.mp4", smooth(2, 135, 255), 8)
    assert read_mp4(tmp_path / "odd.mp4")[0].shape == (2, 136, 256, 3)


def test_bytes_and_floats_give_the_same_file(tmp_path: Path) -> None:
    video = smooth()
    write_video(tmp_path / "a.mp4", video, 8)
    write_video(tmp_path / "b.mp4", torch.from_numpy(to_uint8(video)), 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_frames_are_pngs_of_the_very_pixels(tmp_path: Path) -> None:
    video = smooth(3, 5, 7)
    write_video(tmp_path / "frames", video, 8)
    write_video(tmp_path / "frames", video, 8)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["0000.png", "0001.png", "0002.png"]
    for name, want in zip(names, to_uint8(video), strict=True):
        with Image.open(tmp_path / "frames" / name) as image:
            np.testing.assert_array_equal(np.array(image), want)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


@pytest.mark.parametrize("suffix", FORMATS.values())
def test_every_format_goes_to_a_name_that_is_no_utf8(tmp_path: Path, suffix: str) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xfcndel"))
    write_video(folder / f"clip{suffix}", smooth(), 8)
    assert [path.name for path in folder.iterdir()] == [f"clip{suffix}"]


def test_another_suffix_or_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clip.avi: expected one of .mp4, .gif, .*, got '.avi'"):
        write_video(tmp_path / "clip.avi", smooth(), 8)
    for name in ("clip.mp4", "clip.gif", "clip"):
        with pytest.raises(ConfigError, match=r"\[T, H, W, 3\]"):
            write_video(tmp_path / name, smooth()[0], 8)
    assert not list(tmp_path.iterdir())


def test_the_help_says_what_is_enlarged(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["run", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"png is a folder of frames as they are, all others are enlarged by a whole factor to about {SHOWN_WIDTH}"
        in said
    )
