"""LPIPS by its formula, on random weights in the layouts of torchvision and of the package lpips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tvm_flow.errors import CheckpointError
from tvm_flow.quality import lpips_distance
from tvm_flow.quality.lpips_distance import BACKBONES, EPSILON, SCALE, SHIFT, load_lpips

WIDTHS = (64, 192, 384, 256, 256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet as torchvision saves it, with what LPIPS does not use, and heads of ones in the first tap alone."""
    made = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    state = {f"features.{key}": 3 * value for key, value in BACKBONES["alex"].layers().state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(2, 2)}, made / "alexnet-owt-7be5be79.pth")
    heads = {f"lin{tap}.model.1.weight": torch.zeros(1, width, 1, 1) for tap, width in enumerate(WIDTHS)}
    heads["lin0.model.1.weight"] += 0.5
    torch.save(heads, made / "alex.pth")
    return made


def first_tap(frame: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[64, h, w] of a frame [H, W, 3], by the formula's own words."""
    x = torch.stack([(2 * frame[..., c] - 1 - SHIFT[c]) / SCALE[c] for c in range(3)])
    x = F.conv2d(x[None], weight, bias, stride=4, padding=2)[0].relu()
    return x / (x.square().sum(0).sqrt() + EPSILON)


def test_it_is_the_weighted_distance_of_unit_features(folder: Path) -> None:
    metric = load_lpips(folder / "alexnet-owt-7be5be79.pth")
    a, b = torch.rand(2, 1, 3, 36, 40, 3, generator=torch.Generator().manual_seed(1))
    weight, bias = metric.layers[0].weight, metric.layers[0].bias
    frames = zip(a[0], b[0], strict=True)
    expected = [
        0.5 * (first_tap(x, weight, bias) - first_tap(y, weight, bias)).square().sum(0).mean() for x, y in frames
    ]
    found = metric.columns(a, b, ["a"])
    assert set(found) == {"lpips"}
    torch.testing.assert_close(found["lpips"], torch.stack(expected).mean()[None])  # float32 against float32
    assert float(found["lpips"]) > 0


def test_every_tap_counts(folder: Path, tmp_path: Path) -> None:
    """With ones in all heads each layer adds between 0 and 4, the square of the distance of two unit vectors."""
    backbone = tmp_path / "alexnet.pth"
    backbone.write_bytes((folder / "alexnet-owt-7be5be79.pth").read_bytes())
    heads = {f"lin{tap}.model.1.weight": torch.ones(1, width, 1, 1) for tap, width in enumerate(WIDTHS)}
    torch.save(heads, tmp_path / "alex.pth")
    one, every = load_lpips(folder / "alexnet-owt-7be5be79.pth"), load_lpips(backbone)
    a, b = torch.rand(2, 1, 2, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    few, all_of_them = (float(metric.columns(a, b, ["a"])["lpips"]) for metric in (one, every))
    assert 2 * few < all_of_them < 20


def test_fp32s_own_videos_are_at_no_distance_and_have_that_to_another_seed_beside_it(folder: Path) -> None:
    metric = load_lpips(folder / "alexnet-owt-7be5be79.pth")
    videos = torch.rand(3, 2, 32, 32, 3, generator=torch.Generator().manual_seed(2))
    found = metric.columns(videos, videos, ["a", "b", "a"])
    assert found["lpips"].tolist() == [0, 0, 0]
    first, alone, last = found["lpips_other_seed"].tolist()
    assert first == last == pytest.approx(float(metric.distance(videos[0], videos[2]).mean())) and alone != alone


def test_vgg_has_torchvisions_places() -> None:
    layers, taps = BACKBONES["vgg"].layers(), BACKBONES["vgg"].taps
    places = [int(key.split(".")[0]) for key in layers.state_dict() if key.endswith("weight")]
    assert places == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [type(layers[tap]).__name__ for tap in taps] == ["ReLU"] * 5
    assert [layers[tap - 1].out_channels for tap in taps] == [64, 128, 256, 512, 512]


def test_what_is_missing_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"expected torchvision's AlexNet or VGG16: .* got nothing; nothing"):
        load_lpips(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"got keys like \['lin0\.model"):
        load_lpips(folder / "alex.pth")
    backbone = tmp_path / "alexnet.pth"
    backbone.write_bytes((folder / "alexnet-owt-7be5be79.pth").read_bytes())
    monkeypatch.setattr(lpips_distance.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match=r"alex\.pth: expected LPIPS' linear heads .*pip install lpips"):
        load_lpips(backbone)
    torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "alex.pth")
    with pytest.raises(
        CheckpointError,
        match=r"4 missing: lin1\.model\.1\.weight, .*; 1 misshapen: lin0\.model\.1\.weight \(have \[1, 3, 1, 1\] but",
    ):
        load_lpips(backbone)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    torch.save({"features.0.weight": Trap()}, tmp_path / "alexnet.pth")
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        load_lpips(tmp_path / "alexnet.pth")
    assert not (tmp_path / "ran").exists()
