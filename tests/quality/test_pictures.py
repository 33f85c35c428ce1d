"""The README's pictures: SVG files of their own, the same for the same scores and ranges."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from support.tiny_model import LATENT, SAMPLER

from tvm_flow.calibrate import LayerRanges, Ranges, save_ranges
from tvm_flow.cli import main
from tvm_flow.errors import ConfigError
from tvm_flow.quality.pictures import DRIFT, GROUPS, MOST_ROWS, drift_picture, write_pictures

SVG = "{http://www.w3.org/2000/svg}"


def scores(path: Path, recipes: dict[str, list[int]]) -> Path:
    rows = [
        {
            **{"key": "k", "recipe": recipe, "model": model, "prompt": prompt, "seed": 0, "bytes_per_step": 1.0},
            **{"groups": groups, "latent_psnr_db": 40.0 + max(groups), "latent_cosine": 1.0},
        }
        for recipe, groups in recipes.items()
        for model in ("plain", "outliers")
        for prompt in "pq"
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ranges(layers: int) -> Ranges:
    """Layer k grows by k over the three steps."""
    found = {}
    for k in range(layers):
        absmax = np.linspace(1, 1 + k, 3, dtype=np.float32)[:, None, None] * np.ones((3, 2, 4), np.float32)
        found[f"blocks.{k}.attn.qkv"] = LayerRanges(-absmax[..., 0], absmax[..., 0], absmax)
    return Ranges("0" * 64, SAMPLER, LATENT, (), found)


def texts(path: Path) -> list[str]:
    return [each.text or "" for each in ElementTree.parse(path).getroot().iter(f"{SVG}text")]


def test_report_draws_both_and_the_same_again(tmp_path: Path) -> None:
    lines = scores(tmp_path / "a.jsonl", {"fp32": [0] * 3, "w8-g1": [0] * 3, "w8": [0, 1, 2], "other": [0] * 3})
    save_ranges(tmp_path / "ranges.safetensors", ranges(2))
    given = ["--scores", str(lines), "--ranges", str(tmp_path / "ranges.safetensors")]
    drawn = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        output = ["--output", str(tmp_path / "report.html"), "--pictures", str(tmp_path / name)]
        assert main(["report", *given, *output]) == 0
        drawn.append([(tmp_path / name / file).read_bytes() for file in (GROUPS, DRIFT)])
    assert drawn[0] == drawn[1]
    named = texts(tmp_path / "one" / GROUPS)
    assert {"w8, plain, 2 pairs", "w8, outliers, 2 pairs", "1", "3"} <= set(named) and not any(
        "other" in name for name in named
    )
    assert {"blocks.0.attn.qkv", "blocks.1.attn.qkv", "0", "2"} <= set(texts(tmp_path / "one" / DRIFT))
    assert not any(word in page for page in map(bytes.decode, drawn[0]) for word in ("href", "url(", "<script"))


def test_of_many_layers_those_that_drift_most_are_shown() -> None:
    drawn = drift_picture(ranges(MOST_ROWS + 2))
    assert "blocks.1.attn.qkv" not in drawn and "blocks.2.attn.qkv" in drawn
    assert f"{MOST_ROWS + 2:.3g} times the narrowest step, logarithmic" in drawn


def test_scores_without_groups_say_what_to_run(tmp_path: Path) -> None:
    lines = scores(tmp_path / "a.jsonl", {"fp32": [0] * 3, "w8": [0, 1, 2]})
    with pytest.raises(ConfigError, match="got none; run tvm-flow evaluate static-w8a8 static-w8a8-g1 first"):
        write_pictures(lines, None, tmp_path)
