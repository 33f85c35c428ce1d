"""The commands on a checkpoint of STDiT (Open-Sora v1.0) with a padded latent: all stages, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from support.tiny_commands import CONFIG, LATENT, PROMPT, write_checkpoint, write_inputs

from tvm_flow.cli import main
from tvm_flow.pack import read_golden
from tvm_flow.run import Bundle


@dataclass(frozen=True)
class Files:
    """What a person has before the first command, and the folder where the commands write."""

    folder: Path

    @property
    def source(self) -> list[str]:
        return [
            *("--model", str(self.folder / "checkpoint"), "--sampler", str(self.folder / "sampler.yaml")),
            *("--latent", LATENT, "--captions", str(self.folder)),
        ]

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("stdit")
    write_inputs(folder)
    return Files(folder)


@pytest.fixture(scope="module")
def built(files: Files) -> Files:
    """Every stage once, through the commands."""
    prompts, ranges, quantized = files.path("prompts.yaml"), files.path("ranges"), files.path("quantized")
    for words in (
        ["calibrate", *files.source, "--prompts", prompts, "--output", ranges],
        ["quantize", *files.source, "--ranges", ranges, "--output", quantized],
        ["export", *files.source, "--quantized", quantized, "--prompts", prompts, "--output", files.path("export")],
        ["compile", "--export", files.path("export"), "--output", files.path("bundle"), "--threads", "1"],
    ):
        assert main(words) == 0, words[0]
    return files


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a failing command says."""
    assert main(list(words)) == 2
    return capsys.readouterr().err


def test_inspect_names_the_model(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", files.path("checkpoint")]) == 0
    assert capsys.readouterr().out.startswith("model: STDiT, depth 1, hidden 32, heads 2\n")


def test_a_bundle_of_every_stage(built: Files, capsys: pytest.CaptureFixture[str]) -> None:
    quantized = ["quantize", *built.source, "--ranges", built.path("ranges"), "--output", built.path("quantized")]
    assert main(quantized) == 0
    said = capsys.readouterr().out
    assert said.startswith("9 layers, 2 steps")
    assert [line.split()[0] for line in said.splitlines()[2:11]][2:4] == ["attn_temp.qkv", "attn_temp.proj"]
    manifest = json.loads((built.folder / "bundle" / "manifest.json").read_text())
    assert manifest["provenance"]["model"] == CONFIG.to_dict()
    assert read_golden(built.folder / "bundle").latents.shape == (4, 2, 3, 5)
    with Bundle.open(built.folder / "bundle", threads=1) as bundle:
        bundle.verify()


def test_build_names_what_does_not_fit_the_model(built: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe for STDiT3's blocks matches nothing in an STDiT."""
    values = {
        "model": "checkpoint",
        "sampler": "sampler.yaml",
        "latent": [4, 2, 3, 5],
        "captions": ".",
        "prompts": "prompts.yaml",
        "recipe": "recipe.yaml",
        "target": "host",
        "output": "out",
    }
    (built.folder / "recipe.yaml").write_text("smoothing: {layers: ['spatial_blocks.*']}\n")
    (built.folder / "build.yaml").write_text(yaml.safe_dump(values))
    line = refused(capsys, "build", built.path("build.yaml"))
    assert "recipe: pattern 'spatial_blocks.*' matches no layer; layers are called blocks.0.attn.qkv to" in line


def test_run_writes_latents_where_nothing_decodes_them(built: Files, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", PROMPT, "--bundle", built.path("bundle"), "--captions", str(built.folder), "--threads", "1"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == f"latents: {built.path('videos')}/latents.safetensors\n"
    assert "no decoder in this bundle: latents are written; --autoencoder FOLDER makes videos of them" in said.err
    latents = load_file(built.folder / "videos" / "latents.safetensors")["latents"]
    assert latents.shape == (1, 4, 2, 3, 5) and bool(np.isfinite(latents).all())


def test_run_says_that_it_has_no_autoencoder_for_a_video(built: Files, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--output", built.path("clip.mp4")], ["--format", "png", "--output", built.path("frames")]):
        line = refused(capsys, "run", PROMPT, "--bundle", built.path("bundle"), *words)
        assert "(4, 2, 3, 5)" in line and "--autoencoder" in line
    assert not {"clip.mp4", "frames"} & {path.name for path in built.folder.iterdir()}


@pytest.mark.parametrize("stage", ["calibrate", "quantize", "export"])
def test_the_sampler_of_another_model_is_refused(
    stage: str, files: Files, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sampler.yaml").write_text("name: rflow\n")
    words = [str(tmp_path / "sampler.yaml") if word.endswith("sampler.yaml") else word for word in files.source]
    line = refused(capsys, stage, *words, "--output", str(tmp_path / "out"))
    assert (
        "sampler.yaml: name: expected iddpm or ddim for an STDiT, which was trained for no other, got 'rflow'" in line
    )
    assert [path.name for path in tmp_path.iterdir()] == ["sampler.yaml"]


def test_ranges_of_another_model_are_refused(built: Files, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", seed=1)
    words = [str(tmp_path / "checkpoint") if word.endswith("checkpoint") else word for word in built.source]
    line = refused(capsys, "quantize", *words, "--ranges", built.path("ranges"), "--output", str(tmp_path / "q"))
    assert "ranges: expected those of the model" in line
    assert not (tmp_path / "q").exists()
