"""CLIPSIM and CLIP-temp: what transformers' own embeddings give, and a line for each mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.tiny_clip import LONGEST, SIDE, write_clip

from tvm_flow.errors import CheckpointError
from tvm_flow.quality.clip_scores import load_clip

CAPTIONS = ("a red shoe", "one blue bag that moves to the left")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


def test_scores_are_cosines_of_transformers_own_embeddings(clip: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    videos = torch.randint(0, 256, (2, 3, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0)) / 255
    found = load_clip(clip).columns(videos, videos, CAPTIONS)
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    for k, caption in enumerate(CAPTIONS):
        words = tokenizer([caption], truncation=True, max_length=LONGEST, return_tensors="pt")
        pixels = (videos[k].permute(0, 3, 1, 2) - 0.5) / 0.25  # of the model's own size: nothing is resized
        with torch.no_grad():
            seen = model(**words, pixel_values=pixels)
        image = seen.image_embeds / seen.image_embeds.norm(dim=-1, keepdim=True)
        text = seen.text_embeds[0] / seen.text_embeds[0].norm()
        assert float(found["clipsim"][k]) == pytest.approx(float((image @ text).mean()), abs=1e-5)
        pairs = (image[0] @ image[1] + image[1] @ image[2]) / 2
        assert float(found["clip_temp"][k]) == pytest.approx(float(pairs), abs=1e-5)


def test_a_still_picture_has_a_clip_temp_of_one_at_any_size(clip: Path) -> None:
    still = torch.rand(1, 1, 24, 40, 3, generator=torch.Generator().manual_seed(1)).expand(1, 4, 24, 40, 3)
    assert float(load_clip(clip).columns(still, still, CAPTIONS[:1])["clip_temp"]) == pytest.approx(1, abs=1e-6)


def test_a_folder_that_is_no_clip_is_refused_by_what_it_lacks(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a local folder with a CLIP .* got nothing; nothing is do"):
        load_clip(tmp_path / "none")
    other = Path(shutil.copytree(clip, tmp_path / "other"))
    (other / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match="expected the tokenizer's vocabulary"):
        load_clip(other)
    (other / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(CheckpointError, match="expected model_type clip, got 't5'"):
        load_clip(other)
    for name in ("model.safetensors", "preprocessor_config.json"):
        lacking = Path(shutil.copytree(clip, tmp_path / f"without {name}"))
        (lacking / name).unlink()
        with pytest.raises(
            CheckpointError, match=r"expected a CLIP .* with weights, tokenizer and preprocessor_config"
        ):
            load_clip(lacking)
