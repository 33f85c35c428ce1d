"""Flow is exact on shifts, zero on still ground, and the warp error sees what flickers."""

from __future__ import annotations

import pytest
import torch

from tvm_flow.demo.captions import Scene
from tvm_flow.demo.clips import render
from tvm_flow.quality.motion import flow_error, flow_score, optical_flow, warp_error

TEXTURE = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("direction", "way"), [(0, (0, -2)), (1, (0, 2)), (2, (-2, 0)), (3, (2, 0))])
def test_a_moving_thing_moves_as_it_does(direction: int, way: tuple[int, int]) -> None:
    video = render(TEXTURE, Scene(0, 0, direction), along=2, across=8)[None]
    flow = optical_flow(video)
    middle = flow[0, 3, 12:20, 12:20].reshape(-1, 2)
    assert (middle == torch.tensor(way)).all(1).float().mean() > 0.9
    assert warp_error(video, flow)[0] < 0.02


def test_still_frames_have_no_flow() -> None:
    video = render(TEXTURE, Scene(0, 0, 0), 0, 0)[None, :1].expand(-1, 4, -1, -1, -1)
    flow = optical_flow(video)
    assert flow_score(flow)[0] == 0 and warp_error(video, flow)[0] == 0


def test_flicker_is_inconsistent_and_another_motion_is_far() -> None:
    left, right = (render(TEXTURE, Scene(0, 0, way), 2, 8)[None] for way in (0, 1))
    flicker = left + 0.3 * torch.rand(left.shape, generator=torch.Generator().manual_seed(1))
    one, other = optical_flow(left), optical_flow(right)
    assert warp_error(flicker, optical_flow(flicker))[0] > 5 * warp_error(left, one)[0]
    assert flow_error(one, one)[0] == 0 and flow_error(one, other)[0] > 0.5
