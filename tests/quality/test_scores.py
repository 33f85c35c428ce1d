"""Scores of the demo's videos, and verdicts over them."""

from __future__ import annotations

import pytest
import torch

from tvm_flow.demo import load_vae
from tvm_flow.demo.captions import all_captions
from tvm_flow.demo.clips import ALONG, LANES, Garments, render
from tvm_flow.quality.judge import load_judge
from tvm_flow.quality.scores import CAP_DB, Viewer
from tvm_flow.quality.standings import compared, noise_of_fp32, text_table, verdicts


@pytest.fixture(scope="module")
def latents(garments: Garments) -> tuple[torch.Tensor, list[str]]:
    """Four real clips, encoded, and their captions."""
    captions = list(all_captions())[:116:29]
    clips = []
    for caption in captions:
        scene = all_captions()[caption]
        image = garments.images[garments.labels == scene.garment][0]
        clips.append(render(image, scene, ALONG[0], LANES[scene.direction]))
    return load_vae().encode(torch.stack(clips)), captions


def test_real_clips_are_judged_right_and_equal_ones_are_at_no_distance(
    latents: tuple[torch.Tensor, list[str]],
) -> None:
    z, captions = latents
    viewer = Viewer(load_vae().decode, load_judge())
    for row in viewer.scores(z, z, captions):
        assert row["latent_psnr_db"] == row["frames_psnr_db"] == CAP_DB
        assert row["flow_error"] == 0 and row["latent_cosine"] == pytest.approx(1)
        assert row["colour"] == row["motion"] == 1
        assert 0 < row["flow"] < 2 and row["warp_error"] < 0.05


def test_scores_fall_with_noise(latents: tuple[torch.Tensor, list[str]]) -> None:
    z, captions = latents
    viewer = Viewer(load_vae().decode, load_judge())
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    slight, strong = (viewer.scores(z + size * noise, z, captions) for size in (0.02, 3.0))
    for a, b in zip(slight, strong, strict=True):
        assert a["latent_psnr_db"] > b["latent_psnr_db"] + 30
        assert a["latent_cosine"] > b["latent_cosine"] and a["flow_error"] < b["flow_error"]
        assert a["warp_error"] < b["warp_error"]
    assert sum(row["all"] for row in slight) > sum(row["all"] for row in strong)


def test_without_a_decoder_latents_are_all_there_is() -> None:
    z = torch.randn(2, 4, 3, 2, 2)
    assert [set(row) for row in Viewer().scores(z, z, ["", ""])] == [{"latent_psnr_db", "latent_cosine"}] * 2


def lines(recipe: str, model: str, shift: float, key: str = "a") -> list[dict[str, object]]:
    head = {"key": key, "recipe": recipe, "model": model, "bytes_per_step": 3.0, "groups": [0, 0, 1]}
    noise = torch.randn(20, 3, generator=torch.Generator().manual_seed(5))
    return [
        {
            **{**head, "prompt": f"p{p}", "seed": s, "latent_psnr_db": 50 - 100 * shift, "all": 1.0},
            "confidence": 0.5 + 0.1 * float(noise[p, s]) - shift,
        }
        for p in range(20)
        for s in range(3)
    ]


def test_verdicts_pair_with_fp32_of_the_same_model() -> None:
    found = verdicts([*lines("fp32", "plain", 0), *lines("near", "plain", 1e-3), *lines("far", "plain", 0.3)])
    exact, near, far = found
    assert noise_of_fp32(exact)["confidence"] == pytest.approx(0.1, rel=0.25)
    assert exact.to_fp32 is None
    assert near.to_fp32 is not None and near.to_fp32.equivalent
    assert far.to_fp32 is not None and not far.to_fp32.equivalent and not far.to_fp32.not_below
    line = near.line()
    assert line["pairs"] == 60 and line["judge"] == [1, 1, 1] and line["step_groups"] == 2
    assert line["equivalent_to_fp32"] is True and line["confidence_to_fp32"][0] == pytest.approx(-1e-3)
    assert compared(near, far, "latent_psnr_db", 0).difference.low > 29


def test_the_newest_lines_of_a_recipe_count_and_partial_ones_are_paired() -> None:
    old, new = lines("mine", "plain", 0.3, "old"), lines("mine", "plain", 0.1, "new")[:7]
    _, mine = verdicts([*lines("fp32", "plain", 0), *old, *new])
    assert len(mine.rows) == 7 and mine.interval("latent_psnr_db").mean == pytest.approx(40)


def test_tables_say_mean_and_interval() -> None:
    found = verdicts([*lines("fp32", "plain", 0), *lines("near", "outliers", 0.1)])
    plain, markdown = text_table(found), text_table(found, markdown=True)
    assert plain.splitlines()[1].split()[:4] == ["fp32", "plain", "60", "itself"]
    assert "40.00 [40.00, 40.00]" in plain and "| near | outliers | 60 |" in markdown
