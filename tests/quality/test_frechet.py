"""Features of videos, and the Frechet distance by values that were computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_features import write_features

from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.quality.frechet import frechet_distance, fvd, fvd_between_seeds
from tvm_flow.quality.video_features import load_video_features

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def test_in_one_dimension_it_is_the_distance_of_means_and_of_deviations() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[10.0], [16.0]])  # means 1 and 13, variances 2 and 18
    assert frechet_distance(a, b) == pytest.approx(12**2 + (18**0.5 - 2**0.5) ** 2)


def test_covariances_that_do_not_commute_have_the_root_of_their_product() -> None:
    """tr sqrt(A B) of 2 by 2 matrices is sqrt(tr(A B) + 2 sqrt(det A det B)), by their eigenvalues' sum and product."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 2)), rng.normal(size=(60, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]]) + 3
    A, B = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.trace(A @ B) + 2 * np.sqrt(np.linalg.det(A) * np.linalg.det(B)))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(A) + np.trace(B) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def features(shift: float, seeds: int = 2, seed: int = 0) -> dict[tuple[str, int], list[float]]:
    rng = np.random.default_rng(seed)
    return {(f"p{p}", s): [float(shift + x) for x in rng.normal(size=3)] for p in range(8) for s in range(seeds)}


def test_fvd_of_shifted_videos_has_its_interval_and_is_none_of_too_few() -> None:
    exact, moved = features(0), features(2)
    found = fvd(moved, exact)
    assert found is not None and found.mean == pytest.approx(3 * 2**2)
    assert found.low == pytest.approx(found.high) == pytest.approx(12), "the same videos are drawn of both"
    other = fvd(features(2, seed=1), exact)
    assert other is not None and other.low < other.mean < other.high
    three = dict(list(moved.items())[:3])
    assert fvd(three, exact) is None and fvd(dict(list(moved.items())[:4]), exact) is not None


def test_fp32s_noise_is_between_halves_of_its_seeds() -> None:
    exact = features(0) | {pair: [x + 5 for x in row] for pair, row in features(0).items() if pair[1] == 1}
    first, second = ([row for (_, seed), row in exact.items() if seed == k] for k in (0, 1))
    assert fvd_between_seeds(exact) == pytest.approx(frechet_distance(np.array(first), np.array(second)))
    assert fvd_between_seeds(features(0, seeds=1)) is None and fvd_between_seeds({}) is None


def test_features_are_what_the_module_gives_of_0_to_255(tmp_path: Path) -> None:
    metric = load_video_features(write_features(tmp_path / "i3d.pt", 2.0))
    videos = torch.zeros(2, 4, 6, 5, 3)
    videos[1, ..., 2] = 0.5
    found = metric.columns(videos, videos, ["a", "b"])["video_features"]
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 255.0]]))


def test_too_few_frames_and_other_files_are_refused_by_name(tmp_path: Path) -> None:
    metric = load_video_features(write_features(tmp_path / "i3d.pt"))
    with pytest.raises(ConfigError, match=r"takes videos of \[1, 6, 5, 3\], got: .*I3D needs 10 frames"):
        metric.columns(torch.zeros(1, 1, 6, 5, 3), torch.zeros(1, 1, 6, 5, 3), ["a"])
    (tmp_path / "text.pt").write_text("no archive")
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pt")
    for name in ("text.pt", "state.pt"):
        with pytest.raises(CheckpointError, match=rf"{name}: expected StyleGAN-V's i3d_torchscript\.pt .* fetch it"):
            load_video_features(tmp_path / name)
    with pytest.raises(CheckpointError, match="got a folder; nothing is downloaded"):
        load_video_features(tmp_path)
