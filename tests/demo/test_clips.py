"""Rendering of clips, and reading of Fashion-MNIST's files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from tvm_flow.demo.captions import CLASSES, COLOURS, Scene, all_scenes
from tvm_flow.demo.clips import (
    ALONG,
    DATASET,
    FMNIST_LABELS,
    FRAMES,
    GARMENT,
    LANES,
    SIZE,
    TINTS,
    Garments,
    random_place,
    read_garments,
    render,
    typical,
)
from tvm_flow.errors import ConfigError

BOX = torch.ones(GARMENT, GARMENT)


@pytest.mark.parametrize(
    ("direction", "axis", "shift"),
    [(0, 2, -2), (1, 2, 2), (2, 1, -2), (3, 1, 2)],
    ids=["left", "right", "up", "down"],
)
def test_each_frame_is_the_last_one_shifted_by_two(garments: Garments, direction: int, axis: int, shift: int) -> None:
    clip = render(garments.images[20], Scene(2, 0, direction), 0, 8)
    assert clip.shape == (FRAMES, SIZE, SIZE, 3)
    for t in range(1, FRAMES):
        assert torch.equal(clip[t], clip[t - 1].roll(shift, dims=axis - 1))


@pytest.mark.parametrize("along", ALONG)
@pytest.mark.parametrize("across", sorted(set(LANES)))
def test_the_garment_never_leaves_the_frame(along: int, across: int) -> None:
    for scene in all_scenes()[:16]:
        clip = render(BOX, scene, along, across)
        area = (clip.amax(-1) > 0).sum((1, 2))
        assert (area == GARMENT * GARMENT).all()


@pytest.mark.parametrize("colour", range(len(COLOURS)))
def test_tint(colour: int) -> None:
    clip = render(BOX, Scene(0, colour, 1), 0, 4)
    expected = torch.tensor(TINTS[COLOURS[colour]])
    assert torch.equal(clip[0, 4, 0], expected)
    assert torch.equal(clip[0, 3, 0], torch.zeros(3))


def test_path_starts_at_the_edge_it_leaves() -> None:
    left = render(BOX, Scene(0, 0, 0), 2, 8)[0].amax(-1)
    right = render(BOX, Scene(0, 0, 1), 2, 8)[0].amax(-1)
    assert left[8].nonzero().max() == SIZE - 3
    assert right[8].nonzero().min() == 2


@pytest.mark.parametrize("direction", range(4))
def test_each_way_keeps_to_its_lane(direction: int) -> None:
    generator, scene = torch.Generator().manual_seed(0), Scene(0, 0, direction)
    places = {random_place(scene, generator) for _ in range(50)}
    assert places == {(along, LANES[direction]) for along in ALONG}


def test_opposite_ways_never_share_a_pixel() -> None:
    for way, back in ((0, 1), (2, 3)):
        seen = [(render(BOX, Scene(0, 0, d), 0, LANES[d]).amax((0, 3)) > 0) for d in (way, back)]
        assert not (seen[0] & seen[1]).any()


def test_typical_keeps_the_nearest_to_the_mean() -> None:
    images = torch.zeros(12, GARMENT, GARMENT)
    images[3] = 1.0  # the odd one out of class 0
    kept = typical(Garments(images, torch.arange(6).repeat_interleave(2).sort().values), 0.5)
    assert kept.labels.tolist() == list(range(6))
    images = torch.rand(40, GARMENT, GARMENT, generator=torch.Generator().manual_seed(0)) * 0.1
    images[::5] += 0.9
    kept = typical(Garments(images, torch.zeros(40, dtype=torch.int64)), 0.5)
    assert len(kept.labels) == 20
    assert kept.images.mean() < 0.1


def write_idx(root: Path, prefix: str, labels: list[int]) -> None:
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None] + np.full((len(labels), 28, 28), 100, np.uint8)
    with gzip.open(root / f"{prefix}-images-idx3-ubyte.gz", "wb") as stream:
        stream.write(b"\0" * 16 + images.tobytes())
    with gzip.open(root / f"{prefix}-labels-idx1-ubyte.gz", "wb") as stream:
        stream.write(b"\0" * 8 + bytes(labels))


def test_splits_are_halves_without_other_classes(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", [0, 1, 2, 3, 5, 7, 8, 9])
    write_idx(tmp_path, "t10k", [9, 6, 0])
    assert read_garments("generator", tmp_path).labels.tolist() == [0, 1]
    assert read_garments("judge", tmp_path).labels.tolist() == [2, 3, 4, 5]
    test = read_garments("test", tmp_path)
    assert test.labels.tolist() == [5, 0]
    assert test.images.shape == (2, GARMENT, GARMENT)
    assert test.images.amax() == 1.0


def test_absent_data_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt install dataset-fashion-mnist"):
        read_garments("test", tmp_path)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="train"):
        read_garments("train")


@pytest.mark.skipif(not DATASET.exists(), reason="dataset-fashion-mnist is not installed")
def test_installed_data(garments: Garments) -> None:
    test = read_garments("test")
    assert len(test.labels) == 6000
    assert test.labels.bincount().tolist() == [1000] * len(CLASSES)
    assert len(FMNIST_LABELS) == len(CLASSES)
    for label in range(len(CLASSES)):
        rows = (test.labels == label).nonzero()[:8, 0]
        committed = garments.images[label * 8 : label * 8 + 8]
        torch.testing.assert_close(test.images[rows], committed, atol=0.51 / 255, rtol=0)
