"""Flow score by RAFT: how much moves, as EvalCrafter (arXiv 2310.11440) and ViDiT-Q (arXiv 2406.02540) count it.

    flow score = mean over frames t and places of |RAFT(x_t, x_t+1)|     in pixels a frame

RAFT: Teed and Deng, ECCV 2020 (arXiv 2003.12039), torchvision's model with 12 updates, pictures in -1..1. It reads maps
of an eighth of the picture over four halvings, so pictures need 128 pixels: smaller ones are enlarged by a whole factor
(bilinear) and their flow divided by it, and sides are continued to multiples of 8. More motion is not better: what
counts is the distance to FP32's score, which ViDiT-Q calls dFlow.

`tvm_flow.quality.motion` measures motion without weights, by block matching, and says so in its columns' name (flow).
The weights are torchvision's raft_large_C_T_SKHT_V2-ff5fadd5.pth or raft_small_C_T_V2-01064c6d.pth, of
https://download.pytorch.org/models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tvm_flow.quality.metric_weights import fill, read_state, require
from tvm_flow.quality.motion import flow_score

WEIGHTS = "torchvision's RAFT: raft_large_C_T_SKHT_V2-ff5fadd5.pth, raft_small_C_T_V2-01064c6d.pth"
LEAST, MULTIPLE = 128, 8
"""Pixels that a side needs, and of what it has to be a multiple."""
_OF_LARGE = "mask_predictor.convrelu.0.weight"
"""A key that RAFT's small model does not have: it enlarges its flow without learned weights."""


@dataclass(frozen=True, eq=False)
class RaftFlow:
    """torchvision's model."""

    model: Any
    files: tuple[Path, ...] = ()

    def columns(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:  # noqa: ARG002
        """``flow_score`` [N] of videos [N, T, H, W, 3] in 0..1."""
        return {"flow_score": torch.cat([flow_score(self.flow(video)[None]) for video in ours])}

    def flow(self, video: Tensor) -> Tensor:
        """(columns, rows) a frame in pixels, [T - 1, H, W, 2], of a video [T, H, W, 3] in 0..1."""
        height, width = video.shape[1:3]
        factor = -(-LEAST // min(height, width)) if min(height, width) < LEAST else 1
        x = 2 * video.float().permute(0, 3, 1, 2) - 1
        x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False) if factor > 1 else x
        x = F.pad(x, (0, -x.shape[3] % MULTIPLE, 0, -x.shape[2] % MULTIPLE), mode="replicate")
        flows = torch.cat([self.model(a[None], b[None])[-1] for a, b in pairwise(x)]) / factor
        flows = flows[:, :, : height * factor, : width * factor]
        return F.avg_pool2d(flows, factor).permute(0, 2, 3, 1)


def load_raft(path: Path) -> RaftFlow:
    """The model, large or small, whose weights are in ``path``; raises CheckpointError, ConfigError."""
    state = read_state(path, WEIGHTS)
    models = require("torchvision.models.optical_flow")
    size = "large" if _OF_LARGE in state else "small"
    model = getattr(models, f"raft_{size}")(weights=None, progress=False)
    fill(model, state, path, f"torchvision's raft_{size}")
    return RaftFlow(model, (path,))
