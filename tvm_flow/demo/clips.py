"""The demo's videos: a Fashion-MNIST garment, tinted, crossing a black 32x32 frame at 2 pixels a frame.

Images come from Debian's package dataset-fashion-mnist. The first half of the training split makes the
generator's clips, the second half trains the judge, the test split measures the judge: no image serves two of
these.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tvm_flow.demo.captions import COLOURS, Scene
from tvm_flow.errors import ConfigError

DATASET = Path("/usr/share/datasets/fashion-mnist")
FRAMES, SIZE, GARMENT, SPEED = 8, 32, 16, 2
FMNIST_LABELS = (0, 1, 5, 7, 8, 9)  # of CLASSES, in order
TINTS = {
    "red": (1.0, 0.1, 0.1),
    "green": (0.1, 1.0, 0.1),
    "blue": (0.15, 0.25, 1.0),
    "yellow": (1.0, 1.0, 0.1),
}
STEPS = ((0, -SPEED), (0, SPEED), (-SPEED, 0), (SPEED, 0))  # (rows, columns) a frame, per DIRECTIONS
ALONG = (0, 2)  # where on its axis of motion a garment's path begins, from the edge it leaves
# Its place on the other axis, per DIRECTIONS: traffic keeps to its lane. With lanes shared by both ways the model drew
# fine motion whose sign was at chance after 4000 steps: STDiT3 has no frame embedding, and way x frame is an XOR.
LANES = (0, 16, 0, 16)


@dataclass(frozen=True)
class Garments:
    """Grey garments, float32 [N, 16, 16] in 0..1, and their index into CLASSES, int64 [N]."""

    images: Tensor
    labels: Tensor


def read_garments(split: str, root: Path = DATASET) -> Garments:
    """Fashion-MNIST's six demo classes at 16x16; split "generator", "judge" or "test".

    Raises ConfigError when the data set is not installed or the split is unknown.
    """
    if split not in ("generator", "judge", "test"):
        raise ConfigError(f"split: expected generator, judge or test, got {split!r}")
    prefix = "t10k" if split == "test" else "train"
    try:
        images = _read_idx(root / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
        labels = _read_idx(root / f"{prefix}-labels-idx1-ubyte.gz", 8)
    except OSError as error:
        raise ConfigError(f"{root}: expected Fashion-MNIST, got {error}; apt install dataset-fashion-mnist") from error
    half = len(labels) // 2
    part = {"generator": slice(0, half), "judge": slice(half, None), "test": slice(None)}[split]
    index = np.full(10, -1)
    index[list(FMNIST_LABELS)] = np.arange(len(FMNIST_LABELS))
    classes = index[labels[part]]
    kept = torch.from_numpy(images[part][classes >= 0].astype(np.float32))
    small = F.interpolate(kept, (GARMENT, GARMENT), mode="area")[:, 0]
    small = small / small.amax((1, 2), keepdim=True).clamp(min=1)
    return Garments(small, torch.from_numpy(classes[classes >= 0].astype(np.int64)))


def typical(garments: Garments, fraction: float) -> Garments:
    """The ``fraction`` of every class nearest to its mean image: cleaner clips for a small generator."""
    keep = []
    for label in range(len(FMNIST_LABELS)):
        rows = torch.nonzero(garments.labels == label)[:, 0]
        images = garments.images[rows]
        distance = (images - images.mean(0)).square().sum((1, 2))
        keep.append(rows[distance.argsort()[: int(len(rows) * fraction)]])
    chosen = torch.cat(keep)
    return Garments(garments.images[chosen], garments.labels[chosen])


def render(garment: Tensor, scene: Scene, along: int, across: int) -> Tensor:
    """A clip: garment [16, 16] in 0..1 -> float32 [8, 32, 32, 3] in 0..1.

    ``along`` and ``across`` (pixels) place the path: from the edge the garment leaves, and on the other axis.
    """
    rows, columns = STEPS[scene.direction]
    tinted = garment[..., None] * torch.tensor(TINTS[COLOURS[scene.colour]])
    clip = torch.zeros(FRAMES, SIZE, SIZE, 3)
    for frame in range(FRAMES):
        y = _place(rows, along, across, frame)
        x = _place(columns, along, across, frame)
        clip[frame, y : y + GARMENT, x : x + GARMENT] = tinted
    return clip


def random_place(scene: Scene, generator: torch.Generator) -> tuple[int, int]:
    """A pair (along, across) that the generator's clips of ``scene`` use."""
    pick = int(torch.randint(len(ALONG), (), generator=generator))
    return ALONG[pick], LANES[scene.direction]


def _place(step: int, along: int, across: int, frame: int) -> int:
    if step == 0:
        return across
    return along + step * frame if step > 0 else SIZE - GARMENT - along + step * frame


def _read_idx(path: Path, header: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with gzip.open(path) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=header)
