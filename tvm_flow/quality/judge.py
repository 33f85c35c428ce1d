"""Does a video show what its caption asks for? Class by a small CNN, colour and motion by measurement.

The CNN sees grey frames and was trained on images that the generator never saw. Colour and motion need no
learning: the garment is the only bright thing on a black ground, so its mean colour and the path of its
centroid decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tvm_flow.demo.assets import WEIGHTS, fill
from tvm_flow.demo.captions import CLASSES, COLOURS, DIRECTIONS, parse_caption
from tvm_flow.demo.clips import SPEED, STEPS, TINTS
from tvm_flow.errors import ConfigError

BRIGHT = 0.15  # of full brightness: what counts as garment when the path is measured
SPEED_RANGE = (0.5 * SPEED, 1.5 * SPEED)  # pixels a frame that pass as the demo's speed


@dataclass(frozen=True)
class Verdict:
    """Indices into CLASSES, COLOURS, DIRECTIONS seen in N videos, int64 [N]; -1 where nothing fits."""

    garment: Tensor
    colour: Tensor
    direction: Tensor


class Judge(nn.Module):
    """Class logits per grey frame; ``verdict`` and ``score`` for whole videos."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(8 * width, 4 * width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4 * width, len(CLASSES))
        )

    def forward(self, grey: Tensor) -> Tensor:
        """Grey frames [N, 32, 32] in 0..1 -> logits [N, 6]."""
        maps = self.features(grey[:, None] * 2 - 0.5)
        return self.head(torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], dim=1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def verdict(self, videos: Tensor) -> Verdict:
        """Judge videos [N, T, H, W, 3], uint8 or float in 0..1; raises ConfigError on another shape."""
        if videos.ndim != 5 or videos.shape[-1] != 3 or videos.shape[1] < 2:
            raise ConfigError(f"videos: expected [N, T >= 2, H, W, 3], got {list(videos.shape)}")
        videos = videos.float() / 255 if videos.dtype == torch.uint8 else videos.float()
        grey = videos.amax(-1)
        logits = self(grey.flatten(0, 1)).log_softmax(-1).unflatten(0, grey.shape[:2]).mean(1)
        return Verdict(logits.argmax(-1), colour_of(videos), direction_of(grey))

    def score(self, videos: Tensor, captions: Sequence[str]) -> dict[str, float]:
        """Shares of N videos right in "class", "colour", "motion" and "all" three.

        Raises PromptError on a caption outside the demo's language, ConfigError when the counts differ.
        """
        if len(videos) != len(captions) or not captions:
            raise ConfigError(f"score: expected a caption a video, got {len(videos)} videos, {len(captions)} captions")
        scenes = [parse_caption(caption) for caption in captions]
        seen = self.verdict(videos)
        right = {
            "class": seen.garment == torch.tensor([s.garment for s in scenes]),
            "colour": seen.colour == torch.tensor([s.colour for s in scenes]),
            "motion": seen.direction == torch.tensor([s.direction for s in scenes]),
        }
        right["all"] = right["class"] & right["colour"] & right["motion"]
        return {name: float(hits.float().mean()) for name, hits in right.items()}


def load_judge(folder: Path = WEIGHTS) -> Judge:
    """The demo's judge in fp32, eval mode; raises CheckpointError."""
    judge = Judge()
    fill(judge, folder / "judge.safetensors")
    return judge


def colour_of(videos: Tensor) -> Tensor:
    """Index of the tint nearest in direction to a video's summed colour; [N, T, H, W, 3] -> int64 [N]."""
    tints = torch.tensor([TINTS[name] for name in COLOURS])
    total = videos.sum((1, 2, 3))
    cosine = nn.functional.cosine_similarity(total[:, None], tints[None], dim=-1)
    return cosine.argmax(-1).masked_fill(total.sum(-1) == 0, -1)


def direction_of(grey: Tensor) -> Tensor:
    """Index of the direction in which the centroid moves, int64 [N]; grey frames [N, T, H, W].

    The path's least-squares speed must lie within half of the demo's speed along one axis and be under a
    quarter of it along the other, and every single step must go the same way; otherwise -1.
    """
    path = centroids(grey)
    time = torch.arange(grey.shape[1], dtype=torch.float32)
    time = time - time.mean()
    speed = (path * time[:, None]).sum(1) / time.square().sum()
    moves = path.diff(dim=1)
    out = torch.full((len(grey),), -1)
    for index in range(len(DIRECTIONS)):
        way = torch.tensor(STEPS[index]) / SPEED
        along, across = speed @ way, (speed @ way.flip(0)).abs()
        steady = ((moves @ way) > 0).all(1)
        fits = (along > SPEED_RANGE[0]) & (along < SPEED_RANGE[1]) & (across < SPEED / 4) & steady
        out[fits] = index
    return out


def centroids(grey: Tensor) -> Tensor:
    """(row, column) of the centroid of what exceeds BRIGHT, in pixels; [N, T, H, W] -> [N, T, 2]."""
    mass = (grey - BRIGHT).clamp(min=0)
    total = mass.sum((2, 3)).clamp(min=1e-6)
    rows = (mass.sum(3) @ torch.arange(grey.shape[2], dtype=torch.float32)) / total
    columns = (mass.sum(2) @ torch.arange(grey.shape[3], dtype=torch.float32)) / total
    return torch.stack([rows, columns], dim=-1)
