"""A TorchScript module that is called as StyleGAN-V's I3D is."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


class MeanColour(nn.Module):
    """Three features: the mean of each colour over a video, of 0..255, times a weight; two frames are needed."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if not (rescale and resize and return_features):
            raise RuntimeError("called otherwise than the field does")
        x = torch.nn.functional.avg_pool3d(x, [2, 1, 1], stride=1)
        return x.mean([2, 3, 4]) * self.weight


def write_features(path: Path, weight: float = 1.0) -> Path:
    torch.jit.script(MeanColour(weight).eval()).save(str(path))  # type: ignore[no-untyped-call]
    return path
