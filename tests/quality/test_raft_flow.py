"""Flow score: what surrounds torchvision's RAFT, around a model that answers what is asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.quality.raft_flow import load_raft

LARGE = "mask_predictor.convrelu.0.weight"


class Answer(nn.Module):
    """Says (3, 4) pixels everywhere in its last update, of the pictures that it is given."""

    def __init__(self, large: bool) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []
        for name in [LARGE] if large else ["other.weight"]:
            self.register_parameter(name.replace(".", "_"), nn.Parameter(torch.zeros(1)))

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        assert a.shape == b.shape and float(a.min()) >= -1 and float(a.max()) <= 1
        self.seen.append(tuple(a.shape[2:]))
        flow = torch.tensor([3.0, 4.0])[None, :, None, None].expand(1, 2, *a.shape[2:])
        return [0 * flow, flow]


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = ModuleType("torchvision.models.optical_flow")
    flow.raft_small = lambda **_: Answer(large=False)  # type: ignore[attr-defined]
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, flow.__name__, flow)


def weights(folder: Path) -> Path:
    torch.save({"other_weight": torch.ones(1)}, folder / "raft_small.pth")
    return folder / "raft_small.pth"


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(
    ("height", "width", "given", "factor"),
    [(128, 136, (128, 136), 1), (130, 200, (136, 200), 1), (32, 32, (128, 128), 4), (30, 50, (152, 256), 5)],
)
def test_small_pictures_are_enlarged_and_flow_is_in_their_own_pixels(
    tmp_path: Path, height: int, width: int, given: tuple[int, int], factor: int
) -> None:
    metric = load_raft(weights(tmp_path))
    videos = torch.rand(1, 3, height, width, 3, generator=torch.Generator().manual_seed(0))
    assert metric.flow(videos[0]).shape == (2, height, width, 2)
    assert set(metric.model.seen) == {given}
    score = float(metric.columns(videos, videos, ["a"])["flow_score"])
    assert score == pytest.approx(5 / factor, rel=1e-6)


@pytest.mark.usefixtures("torchvision")
def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"another": torch.ones(1), "pos_embed": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError, match=r"torchvision's raft_small, got: 1 missing: other_weight; 2 extra: another, pos_embed;"
    ):
        load_raft(tmp_path / "other.pth")


def test_without_torchvision_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, "torchvision.models.optical_flow", raising=False)
    with pytest.raises(ConfigError, match=r"optional extra 'metrics', got: .*pip install 'tvm-flow\[metrics\]'"):
        load_raft(weights(tmp_path))
