"""The table of the field's metrics: intervals, FP32's own noise, and that CLIPSIM decides nothing alone."""

from __future__ import annotations

import numpy as np

from tvm_flow.quality.field_table import NOISE, field_columns, field_notes, field_rows, field_text
from tvm_flow.quality.report_file import quality_sections
from tvm_flow.quality.standings import verdicts


def lines(recipe: str, shift: float, measured: bool = True) -> list[dict[str, object]]:
    rng, found = np.random.default_rng(0), []
    for p in range(6):
        for s in range(2):
            clip, features = 0.2 + 0.01 * s + shift, [float(x) + shift for x in rng.normal(size=2)]
            head = {"key": "k", "recipe": recipe, "model": "plain", "bytes_per_step": 0.0, "groups": [0]}
            row = {**head, "prompt": f"p{p}", "seed": s, "latent_psnr_db": 40.0}
            if measured:
                row |= {"clipsim": clip, "lpips": shift, "video_features": features}
                row |= {"lpips_other_seed": 0.3} if recipe == "fp32" else {}
            found.append(row)
    return found


def test_each_recipe_has_means_with_intervals_and_fp32s_noise_stands_below() -> None:
    found = verdicts([*lines("fp32", 0), *lines("mine", 0.1), *lines("old", 0, measured=False)])
    heads, exact, mine, noise = field_rows(found)
    assert heads == ("recipe", "model", "pairs", "lpips", "clipsim", "fvd") and field_columns(found) == heads[3:]
    assert exact == ("fp32", "plain", "12", "itself", "0.2050 [0.2000, 0.2100]", "itself")
    assert mine[3:5] == ("0.1000 [0.1000, 0.1000]", "0.3050 [0.3000, 0.3100]")
    assert mine[5].startswith("0.0 ["), "moved by a tenth in two features: 0.02"
    assert noise[:5] == (NOISE, "plain", "12", "0.3000 [0.3000, 0.3000]", "0.0071")
    assert float(noise[5]) > 0


def test_the_notes_say_that_clipsim_rises_for_broken_videos() -> None:
    found = verdicts([*lines("fp32", 0), *lines("mine", 0.1)])
    assert any(
        "clipsim rises for broken videos" in note and "decides nothing alone" in note for note in field_notes(found)
    )
    assert "clipsim rises for broken videos" in field_text(found)
    (section,) = (each for each in quality_sections(found) if each.title == "The field's metrics")
    assert "clipsim rises for broken videos" in section.words and "0.3050" in section.content


def test_too_few_videos_have_no_fvd_and_the_reason_is_said() -> None:
    few = [line for line in [*lines("fp32", 0), *lines("mine", 0.1)] if line["prompt"] == "p0"]
    text = field_text(verdicts(few))
    assert "mine, plain: fvd needs 3 videos, got 2" in text


def test_scores_by_other_weights_are_not_set_beside_fp32s() -> None:
    """Features of other lengths, which no distance takes, and other words for the weights."""
    other = [line | {"measured": "b", "video_features": [0.0] * 3} for line in lines("mine", 0.1)]
    found = verdicts([*(line | {"measured": "a"} for line in lines("fp32", 0)), *other])
    assert [row[0] for row in field_rows(found)[1:]] == ["fp32", NOISE]
    assert "mine, plain: not shown: other weights than fp32's" in field_text(found)


def test_nothing_measured_is_no_table() -> None:
    assert field_text(verdicts(lines("fp32", 0, measured=False))) == ""
    assert all(each.title != "The field's metrics" for each in quality_sections(verdicts(lines("fp32", 0, False))))
