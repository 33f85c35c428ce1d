"""Committed garments, so that tests need no data set: the first eight of each class of the test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tvm_flow.demo.captions import all_scenes
from tvm_flow.demo.clips import FRAMES, GARMENT, Garments, random_place, render


@pytest.fixture(scope="session")
def garments() -> Garments:
    """Eight garments of each class, in class order."""
    with Image.open(Path(__file__).parent / "garments.png") as image:
        grid = torch.from_numpy(np.array(image, np.float32) / 255)
    classes, each = grid.shape[0] // GARMENT, grid.shape[1] // GARMENT
    tiles = grid.reshape(classes, GARMENT, each, GARMENT).transpose(1, 2).reshape(-1, GARMENT, GARMENT)
    return Garments(tiles, torch.arange(classes).repeat_interleave(each))


@pytest.fixture(scope="session")
def real_videos(garments: Garments) -> tuple[torch.Tensor, list[str]]:
    """Every garment once in each of 2 scenes: [96, 8, 32, 32, 3] in 0..1, and the captions."""
    generator = torch.Generator().manual_seed(0)
    scenes = all_scenes()
    clips, captions = [], []
    for row, label in enumerate(garments.labels.tolist()):
        for k in range(2):
            scene = scenes[label * 16 + (row * 5 + k * 7) % 16]
            clips.append(render(garments.images[row], scene, *random_place(scene, generator)))
            captions.append(scene.caption(k % 3))
    videos = torch.stack(clips)
    assert videos.shape[1] == FRAMES
    return videos, captions
