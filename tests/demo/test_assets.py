"""The files that ship: present, small, consistent with one another, and refused by name when damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tvm_flow.demo import (
    LATENT_SHAPE,
    WEIGHTS,
    demo_noise,
    demo_sampler,
    load_captions,
    load_model,
    load_vae,
)
from tvm_flow.demo.captions import all_captions
from tvm_flow.errors import CheckpointError, PromptError
from tvm_flow.model import Video
from tvm_flow.quality.judge import load_judge
from tvm_flow.train.train import DEMO_CONFIG
from tvm_flow.train.train_data import RATIO
from tvm_flow.train.train_flow import FPS


def test_at_most_16_mb() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 16_000_000


def test_model_is_the_documented_one() -> None:
    model = load_model()
    assert model.config == DEMO_CONFIG
    assert sum(p.numel() for p in model.parameters()) == 1_374_316
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert not any(p.requires_grad for p in model.parameters())


def test_model_vae_sampler_and_captions_fit_together() -> None:
    model, vae, captions, sampler = load_model(), load_vae(), load_captions(), demo_sampler()
    video = torch.zeros(1, sampler.frames, sampler.height, sampler.width, 3)
    latent = vae.encode(video)
    assert latent.shape == (1, *LATENT_SHAPE)
    assert LATENT_SHAPE[0] == model.config.in_channels
    tokens, mask = captions.batch(["red bag going up"])
    assert tokens.shape[1:] == (model.config.model_max_length, model.config.caption_channels)
    out = model(latent, torch.tensor([500.0]), tokens, mask, Video(sampler.fps, sampler.height, sampler.width))
    assert out.shape == (1, 16, 8, 8, 8)
    assert vae.decode(latent).shape == video.shape


def test_sampler_is_the_one_trained_for() -> None:
    sampler = demo_sampler()
    assert (sampler.steps, sampler.frames, sampler.height, sampler.width) == (20, 8, 32, 32)
    assert (sampler.ratio, sampler.fps) == (RATIO, FPS)


class TestCaptions:
    """The stored embeddings."""

    captions = load_captions()

    def test_are_the_288_in_order(self) -> None:
        assert list(self.captions) == list(all_captions())
        assert len(self.captions) == 288
        assert self.captions.max_length == 12

    def test_padding_is_zero_and_tokens_are_not(self) -> None:
        for tokens, length in self.captions.values():
            assert tokens.shape == (12, 384)
            assert tokens.dtype == torch.float32
            assert 6 <= length <= 12
            assert not tokens[length:].any()
            assert (tokens[:length].abs().amax(1) > 0.5).all()

    def test_are_standardised(self) -> None:
        valid = torch.cat([tokens[:length] for tokens, length in self.captions.values()])
        torch.testing.assert_close(valid.mean(0), torch.zeros(384), atol=2e-3, rtol=0)
        torch.testing.assert_close(valid.std(0), torch.ones(384), atol=2e-3, rtol=0)

    def test_differ(self) -> None:
        rows = torch.stack([tokens for tokens, _ in self.captions.values()]).flatten(1)
        distance = torch.cdist(rows, rows) + torch.eye(288) * 1e9
        assert distance.min() > 1.0

    def test_batch_masks_padding(self) -> None:
        names = ["a red bag moving up", "video of a green t-shirt moving left"]
        tokens, mask = self.captions.batch(names)
        assert mask.sum(1).tolist() == [self.captions[name][1] for name in names]
        assert torch.equal(tokens[1], self.captions[names[1]][0])

    def test_unknown_prompt(self) -> None:
        assert "a dog" not in self.captions
        assert "red bag going up" in self.captions
        with pytest.raises(PromptError, match=r"a dog.*for example"):
            self.captions["a dog"]
        with pytest.raises(PromptError):
            self.captions.batch(["red bag going up", "a dog"])


def test_noise_of_a_row_does_not_depend_on_the_count() -> None:
    many = demo_noise(7, seed=3)
    assert many.shape == (7, *LATENT_SHAPE)
    assert torch.equal(demo_noise(2, seed=3), many[:2])
    assert not torch.equal(demo_noise(2, seed=4), many[:2])
    assert many.std() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("model.safetensors", load_model),
        ("vae.safetensors", load_vae),
        ("judge.safetensors", load_judge),
        ("captions.safetensors", load_captions),
    ],
)
@pytest.mark.parametrize("damage", ["absent", "torn", "another"])
def test_damage_is_named(tmp_path: Path, name: str, load: Callable[[Path], object], damage: str) -> None:
    for file in WEIGHTS.iterdir():
        shutil.copy(file, tmp_path)
    target = tmp_path / name
    if damage == "absent":
        target.unlink()
    elif damage == "torn":
        target.write_bytes(target.read_bytes()[:1000])
    else:
        shutil.copy(WEIGHTS / ("judge.safetensors" if name != "judge.safetensors" else "vae.safetensors"), target)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.") if damage != "another" else str(tmp_path)):
        load(tmp_path)
