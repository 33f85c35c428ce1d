"""How things move in a video, by block matching: needs no weights.

The flow between two frames takes, at each pixel, the whole shift within `REACH` pixels under which the window around it
differs least; of equal ones the shortest. On still ground it is zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REACH, WINDOW = 4, 7
"""Pixels: the longest shift along an axis, and the side of the window that is compared."""
STILL = 0.01
"""By which a shift has to lower the mean difference of a window, of full brightness: flat ground does not move."""


def optical_flow(videos: Tensor) -> Tensor:
    """[N, T, H, W, 3] in 0..1 -> (rows, columns) a frame, float32 [N, T - 1, H, W, 2]."""
    grey = videos.float().mean(-1)
    before, after = grey[:, :-1].flatten(0, 1), grey[:, 1:].flatten(0, 1)
    reach = range(-REACH, REACH + 1)
    shifts = sorted(((dy, dx) for dy in reach for dx in reach), key=lambda s: (s[0] ** 2 + s[1] ** 2, s))
    padded = F.pad(before[:, None], [REACH] * 4, mode="replicate")[:, 0]
    height, width = grey.shape[2:]
    costs = []
    for dy, dx in shifts:
        moved = padded[:, REACH - dy : REACH - dy + height, REACH - dx : REACH - dx + width]
        cost = F.avg_pool2d((after - moved).abs()[:, None], WINDOW, 1, WINDOW // 2)[:, 0]
        costs.append(cost + (STILL if (dy, dx) != (0, 0) else 0.0))
    best = torch.stack(costs).argmin(0)
    flow = torch.tensor(shifts, dtype=torch.float32)[best]
    return flow.reshape(len(videos), -1, height, width, 2)


def flow_score(flow: Tensor) -> Tensor:
    """Mean length of the flow in pixels a frame, [N]."""
    return flow.square().sum(-1).sqrt().mean((1, 2, 3))


def flow_error(flow: Tensor, reference: Tensor) -> Tensor:
    """Mean distance of two flows in pixels a frame, [N]."""
    return flow_score(flow - reference)


def warp_error(videos: Tensor, flow: Tensor) -> Tensor:
    """Mean difference of each frame from the one before, moved by ``flow``, [N]; 0 is perfectly consistent.

    Blur lowers it, too: no measure of quality by itself.
    """
    count, frames, height, width, _ = videos.shape
    rows = torch.arange(height)[:, None] - flow[..., 0].long()
    columns = torch.arange(width) - flow[..., 1].long()
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    before = videos[:, :-1].float().flatten(2, 3)
    index = places.flatten(2)[..., None].expand(-1, -1, -1, 3)
    moved = before.gather(2, index).reshape(count, frames - 1, height, width, 3)
    return (videos[:, 1:].float() - moved).abs().mean((1, 2, 3, 4))
