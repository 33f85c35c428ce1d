"""Contact sheets and animations, read back pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from tvm_flow.demo.sheet import GAP, LABEL, MARGIN, contact_sheet, to_uint8, write_animation
from tvm_flow.errors import ConfigError


def videos(count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 4, 6, 5, 3, generator=torch.Generator().manual_seed(seed))


def test_every_frame_of_every_version_is_on_the_sheet(tmp_path: Path) -> None:
    versions = {"FP32": videos(), "int8": videos(seed=1)}
    contact_sheet(tmp_path / "sheet.png", ["one", "two"], versions, zoom=2)
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.array(image)
    block = LABEL + 2 * (12 + 2) + GAP
    assert pixels.shape == (2 * block, MARGIN + 4 * 12, 3)
    for number in range(2):
        for line, clips in enumerate(versions.values()):
            for t in range(4):
                y, x = number * block + LABEL + line * 14, MARGIN + t * 12
                tile = pixels[y : y + 12, x : x + 10]
                np.testing.assert_array_equal(tile[::2, ::2], to_uint8(clips[number, t]))
                np.testing.assert_array_equal(tile[::2], tile[1::2])


def test_prompts_and_row_names_are_written(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "a.png", ["moving left", ""], {"FP32": videos()}, zoom=4)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.array(image)
    block = LABEL + 26 + GAP
    assert pixels[:LABEL, MARGIN:].min() < 100
    assert pixels[block : block + LABEL, MARGIN:].min() == 255
    assert pixels[LABEL : LABEL + 24, :MARGIN].min() < 100


def test_rounding_is_to_nearest() -> None:
    values = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.7, -0.2])
    assert to_uint8(values).tolist() == [0, 0, 1, 255, 255, 0]
    raw = torch.arange(5, dtype=torch.uint8)
    assert to_uint8(raw).tolist() == raw.tolist()


@pytest.mark.parametrize("versions", [{}, {"a": videos(3)}, {"a": videos(), "b": videos()[:, :2]}, {"a": videos()[0]}])
def test_sheet_refuses_other_shapes(tmp_path: Path, versions: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match="contact sheet"):
        contact_sheet(tmp_path / "sheet.png", ["one", "two"], versions)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animation_keeps_frames_and_rate(tmp_path: Path, suffix: str) -> None:
    video = videos(1)[0]
    write_animation(tmp_path / f"clip{suffix}", video, fps=8.0, zoom=3)
    with Image.open(tmp_path / f"clip{suffix}") as image:
        assert image.size == (15, 18)
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        # GIF counts in hundredths of a second, and WebP tells a frame's length once it is read.
        assert image.info["duration"] == pytest.approx(125, abs=5)
    assert len(frames) == 4
    if suffix != ".gif":
        np.testing.assert_array_equal(frames[2][::3, ::3], to_uint8(video[2]))


def shown(path: Path) -> tuple[int, list[int]]:
    """Frames of a GIF, and the milliseconds that each is shown for."""
    with Image.open(path) as image:
        lengths = [int(frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    return len(lengths), lengths


@pytest.mark.parametrize("fps", [1.0, 8.0, 12.5, 23.976, 24.0, 25.0, 30.0, 50.0])
def test_a_gif_lasts_as_long_as_its_video(tmp_path: Path, fps: float) -> None:
    """GIF counts hundredths of a second: lengths alternate, none drifts, and no frame is left out."""
    video = torch.rand(31, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    write_animation(tmp_path / "clip.gif", video, fps, zoom=1)
    count, lengths = shown(tmp_path / "clip.gif")
    assert (count, sum(lengths)) == (31, 10 * round(3100 / fps))
    ends = np.cumsum(lengths)
    np.testing.assert_allclose(ends, 1000 * np.arange(1, 32) / fps, atol=5.01)


@pytest.mark.parametrize("fps", [60.0, 120.0, 240.0])
def test_a_gif_above_50_fps_leaves_frames_out_and_keeps_its_speed(tmp_path: Path, fps: float) -> None:
    """Viewers show a hundredth of a second, or none, as a tenth."""
    video = torch.rand(60, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    write_animation(tmp_path / "clip.gif", video, fps, zoom=1)
    count, lengths = shown(tmp_path / "clip.gif")
    assert set(lengths) == {20}
    assert sum(lengths) == pytest.approx(60_000 / fps, abs=10)
    assert count < 60


def test_a_gif_of_one_frame_at_a_high_rate_is_shown(tmp_path: Path) -> None:
    write_animation(tmp_path / "clip.gif", videos(1)[0][:1], fps=120.0)
    assert (tmp_path / "clip.gif").is_file()


def test_animation_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mp4"):
        write_animation(tmp_path / "clip.mp4", videos(1)[0], fps=8)
    with pytest.raises(ConfigError, match=r"\[T, H, W, 3\]"):
        write_animation(tmp_path / "clip.gif", videos(1), fps=8)
