"""The judge: exact where it measures, good where it learned, and hard to fool."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tvm_flow.demo.captions import COLOURS, DIRECTIONS, Scene, parse_caption
from tvm_flow.demo.clips import DATASET, Garments, read_garments, render
from tvm_flow.errors import ConfigError, PromptError
from tvm_flow.quality.judge import Judge, centroids, colour_of, direction_of, load_judge
from tvm_flow.train.train_judge import real_clips

HARD = 0.85  # the committed garments hold 5 of 48 that the judge misses, above its rate over the whole split
Videos = tuple[Tensor, list[str]]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


def test_real_videos_pass(judge: Judge, real_videos: Videos) -> None:
    scores = judge.score(*real_videos)
    assert scores["colour"] == scores["motion"] == 1.0
    assert scores["class"] == scores["all"] >= HARD


@pytest.mark.skipif(not DATASET.exists(), reason="dataset-fashion-mnist is not installed")
def test_held_out_accuracy(judge: Judge) -> None:
    """On Fashion-MNIST's test split; the model card states .960 over 960 clips."""
    scores = judge.score(*real_clips(read_garments("test"), 192, seed=3))
    assert scores["colour"] == scores["motion"] == 1.0
    assert scores["class"] >= 0.93


def test_wrong_captions_fail(judge: Judge, real_videos: Videos) -> None:
    videos, captions = real_videos
    scenes = [parse_caption(caption) for caption in captions]
    other = {
        "class": [Scene((s.garment + 1) % 6, s.colour, s.direction).caption() for s in scenes],
        "colour": [Scene(s.garment, (s.colour + 1) % 4, s.direction).caption() for s in scenes],
        "motion": [Scene(s.garment, s.colour, (s.direction + 1) % 4).caption() for s in scenes],
    }
    for name, wrong in other.items():
        scores = judge.score(videos, wrong)
        assert scores[name] <= 0.05, name
        assert scores["all"] <= 0.05
        assert all(scores[right] >= HARD for right in set(other) - {name})


def test_bytes_and_floats_agree(judge: Judge, real_videos: Videos) -> None:
    videos, captions = real_videos
    assert judge.score((videos * 255).round().to(torch.uint8), captions) == judge.score(videos, captions)


def test_all_is_the_conjunction(judge: Judge, real_videos: Videos) -> None:
    videos, captions = real_videos[0][:4].clone(), list(real_videos[1][:4])
    videos[0] = videos[0].flip(0)  # the other way
    videos[1] = videos[1].flip(-1)  # red and blue swapped, or green kept
    scores = judge.score(videos, captions)
    assert scores["motion"] == 0.75
    assert scores["all"] <= 0.75


@pytest.mark.parametrize("direction", range(len(DIRECTIONS)))
class TestDirection:
    """Motion of one garment, from its pixels."""

    @pytest.fixture
    def grey(self, garments: Garments, direction: int) -> Tensor:
        return render(garments.images[40], Scene(5, 3, direction), 0, 8).amax(-1)[None]

    def test_seen(self, grey: Tensor, direction: int) -> None:
        assert direction_of(grey).tolist() == [direction]

    def test_backwards_is_the_opposite(self, grey: Tensor, direction: int) -> None:
        assert direction_of(grey.flip(1)).tolist() == [direction ^ 1]

    def test_survives_noise(self, grey: Tensor, direction: int) -> None:
        noisy = grey + 0.05 * torch.randn(grey.shape, generator=torch.Generator().manual_seed(0))
        assert direction_of(noisy).tolist() == [direction]

    def test_standing_still_is_no_motion(self, grey: Tensor, direction: int) -> None:
        assert direction in range(4)
        assert direction_of(grey[:, :1].expand(-1, 8, -1, -1)).tolist() == [-1]

    def test_shuffled_frames_are_no_motion(self, grey: Tensor, direction: int) -> None:
        assert direction_of(grey[:, [0, 2, 1, 3, 5, 4, 6, 7]]).tolist() == [-1]
        assert direction in range(4)

    def test_half_the_path_is_too_slow(self, grey: Tensor, direction: int) -> None:
        assert direction_of(grey[:, [0, 0, 0, 1, 1, 1, 2, 2]]).tolist() == [-1]
        assert direction in range(4)


def test_diagonal_is_no_direction() -> None:
    grey = torch.zeros(1, 8, 32, 32)
    for t in range(8):
        grey[0, t, 2 * t : 2 * t + 8, 2 * t : 2 * t + 8] = 1
    assert direction_of(grey).tolist() == [-1]


def test_centroid_of_a_box() -> None:
    grey = torch.zeros(1, 1, 32, 32)
    grey[0, 0, 4:9, 10:21] = 0.8
    assert centroids(grey)[0, 0].tolist() == pytest.approx([6.0, 15.0], abs=1e-4)


@pytest.mark.parametrize("colour", range(len(COLOURS)))
def test_colour_is_seen_even_when_dim(garments: Garments, colour: int) -> None:
    clip = render(garments.images[0], Scene(0, colour, 0), 0, 8)[None]
    assert colour_of(clip).tolist() == colour_of(clip * 0.3).tolist() == [colour]


def test_black_video_has_nothing(judge: Judge) -> None:
    seen = judge.verdict(torch.zeros(2, 8, 32, 32, 3))
    assert seen.colour.tolist() == seen.direction.tolist() == [-1, -1]


def test_bad_input_is_refused(judge: Judge, real_videos: Videos) -> None:
    videos, captions = real_videos
    with pytest.raises(ConfigError, match=r"\[N, T >= 2, H, W, 3\]"):
        judge.verdict(videos[0])
    with pytest.raises(ConfigError, match="a caption a video"):
        judge.score(videos, captions[:-1])
    with pytest.raises(ConfigError, match="a caption a video"):
        judge.score(videos[:0], [])
    with pytest.raises(PromptError, match="a dog"):
        judge.score(videos[:1], ["a dog"])
