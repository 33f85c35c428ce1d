"""The benches of a step and of a whole build, on models small enough for seconds."""

from __future__ import annotations

import json
import tracemalloc
from importlib.util import find_spec
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch

from tvm_flow.bench import models, step
from tvm_flow.bench.__main__ import main
from tvm_flow.bench.models import MODELS, BenchModel, bench_model, write_checkpoint, write_inputs
from tvm_flow.bench.step_files import patches, step_macs
from tvm_flow.bench.step_inputs import StepFiles
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.model import STDiT3Config, STDiTConfig, load_checkpoint
from tvm_flow.model.inspect import inspect_checkpoint
from tvm_flow.pipeline.source import load_source

VIDEO = {"cfg_scale": 7.0, "fps": 8.0, "frames": 3, "height": 48, "width": 32}
SIZES = {"depth": 2, "hidden": 32, "heads": 2, "caption_channels": 8, "model_max_length": 6}
TINY = {
    "stdit3": BenchModel(STDiT3Config(**SIZES), VIDEO, (4, 3, 6, 4)),  # type: ignore[arg-type]
    "stdit": BenchModel(STDiTConfig(**SIZES), {**VIDEO, "name": "iddpm"}, (4, 3, 6, 4)),  # type: ignore[arg-type]
}
OPENVINO = ["openvino_int8", "openvino_fp32"] if find_spec("openvino") else []
PEERS = ["onnxruntime_int8", "onnxruntime_fp32", *OPENVINO, "torch_fp32", "torch_int8"]
LONG = ("torch_compiled", "torch_bf16")
"""Not here: half a minute of a C++ compiler, or products number by number where the CPU has no bfloat16."""


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS", MODELS | TINY)


def test_one_json_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "CONTENDERS", {name: run for name, run in step.CONTENDERS.items() if name not in LONG})
    assert main(["step", "--model", "stdit", "--blocks", "1", "--threads", "1", "--rounds", "1"]) == 0
    (text,) = capsys.readouterr().out.splitlines()
    line = json.loads(text)
    sizes, times = ["model", "blocks", "tokens", "threads"], ["ours_ms", "ours_prologue_ms", "ours_step_ms"]
    assert list(line) == [*sizes, *times, "ours_max_err", "peers", "peak_mb"]
    assert 0 < line["ours_prologue_ms"] + line["ours_step_ms"] <= line["ours_ms"] + 0.11, "rounded to a tenth each"
    assert (line["model"], line["blocks"], line["tokens"], line["threads"]) == ("stdit", 1, 3 * 3 * 2, 1)
    absent = {name: line["peers"].pop(name)["why"] for name, peer in [*line["peers"].items()] if list(peer) == ["why"]}
    if find_spec("openvino"):
        assert "no instructions for bfloat16" in absent.pop("openvino_int8_bf16", "no instructions for bfloat16")
        line["peers"].pop("openvino_int8_bf16", None)
        assert not absent
    else:
        assert all("openvino" in why for why in absent.values())
    assert list(line["peers"]) == PEERS and all(list(peer) == ["ms", "max_err"] for peer in line["peers"].values())
    assert min(line["ours_ms"], line["peak_mb"], *(peer["ms"] for peer in line["peers"].values())) > 0
    floats = [line["peers"][peer]["max_err"] for peer in PEERS if peer.endswith("fp32")]
    # Single precision errs by 1000 * 2^-24 in the argument of the timestep's sines, 8 bits by far more.
    assert 0 < max(floats) < 1e-4 < line["ours_max_err"] < 0.5
    assert all(line["peers"][peer]["max_err"] < 0.5 for peer in PEERS if peer.endswith("int8"))


def test_a_peer_that_fails_says_why_and_ours_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str, *_: object) -> tuple[np.ndarray, dict[str, float]]:
        if name == failing:
            raise BuildError("no such instruction")
        return np.zeros(3), {"ms": 1.0, "peak_mb": 2.0, "prologue_ms": 0.5}

    failing = "torch_int8"
    monkeypatch.setattr(step, "run_contender", run)
    model = bench_model("stdit", 1)
    line = step.report("stdit", model, 1, step.measure(model, tmp_path, 1, 1))
    peers = line["peers"]
    assert isinstance(peers, dict) and peers[failing] == {"why": "no such instruction"} and len(peers) == 9
    assert all(peer == {"ms": 1.0, "max_err": 0.0} for name, peer in peers.items() if name != failing)
    failing = "ours"
    with pytest.raises(BuildError, match="no such instruction"):
        step.measure(model, tmp_path, 1, 1)


def test_a_peer_that_hangs_is_ended_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "PEER_SECONDS", 0.01)
    with pytest.raises(BuildError, match=r"torch_compiled: expected it to be ready and timed within 0.01 s"):
        step.run_contender("torch_compiled", StepFiles(tmp_path), 1, 1)


def test_a_build_stage_by_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = ["--keep", str(tmp_path)]
    assert main(["full", "--model", "stdit3", "--blocks", "1", "--steps", "1", "--last", "calibrate", *keep]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(line) == ["model", "blocks", "steps", "stages"] and list(line["stages"]) == ["inspect", "calibrate"]
    assert all(cost["seconds"] > 0 and cost["peak_mb"] > 50 for cost in line["stages"].values())
    assert (tmp_path / "ranges.safetensors").exists()


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'xl': expected one of stdit3-xl, stdit-xl"):
        bench_model("xl", None)


def test_more_pixels_are_more_tokens_with_positions_scaled() -> None:
    small, large = bench_model("stdit-xl", 1), bench_model("stdit-xl", 1, 512)
    assert (prod(patches(small)), prod(patches(large))) == (4096, 16384)
    assert isinstance(large.config, STDiTConfig) and large.config.space_scale == 1.0
    assert (large.sampler["height"], large.sampler["width"]) == (512, 512)
    assert bench_model("stdit-xl", 1, 256) == small
    assert bench_model("stdit3-xl", 1, 512).latent == (4, 16, 64, 64)
    for pixels in (0, -16, 250):
        with pytest.raises(ConfigError, match="expected a positive multiple of 16"):
            bench_model("stdit-xl", 1, pixels)


@pytest.mark.parametrize("name", TINY)
def test_a_random_checkpoint_is_a_whole_one(name: str, tmp_path: Path) -> None:
    inputs = write_inputs(TINY[name], tmp_path, steps=2)
    found = inspect_checkpoint(inputs.checkpoint)
    assert not str(found.differences) and found.config == TINY[name].config
    source = load_source(str(inputs.checkpoint), inputs.sampler, inputs.latent, inputs.captions)
    assert source.sampler.steps == 2 and all(torch.isfinite(p).all() for p in source.model.parameters())
    tokens, mask = source.embed([models.PROMPT])
    assert tokens.shape == (1, 6, 8) and mask.sum() == 6


@pytest.mark.parametrize("name", TINY)
def test_equal_blocks_of_two_depths_have_equal_weights(name: str, tmp_path: Path) -> None:
    shallow, deep = (tmp_path / text for text in ("shallow", "deep"))
    write_checkpoint(TINY[name].with_blocks(1).config, shallow, 7)
    write_checkpoint(TINY[name].config, deep, 7)
    few, many = load_checkpoint(shallow).state_dict(), load_checkpoint(deep).state_dict()
    assert few.keys() < many.keys() and all(torch.equal(few[key], many[key]) for key in few)
    write_checkpoint(TINY[name].config, tmp_path / "other", 8)
    other = load_checkpoint(tmp_path / "other").state_dict()
    assert not torch.equal(other["x_embedder.proj.weight"], many["x_embedder.proj.weight"])


def test_a_checkpoint_is_written_tensor_by_tensor(tmp_path: Path) -> None:
    config = STDiT3Config(depth=4, hidden=128, heads=2, caption_channels=8, model_max_length=6)
    tracemalloc.start()
    write_checkpoint(config, tmp_path, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    largest = 4 * max(6 * config.hidden, config.mlp_hidden) * config.hidden
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 20 * largest and peak < 4 * largest, "a tensor, its copy, and what keys and header take"


def test_macs_are_those_of_the_published_model() -> None:
    """2.85 T per forward and sample for STDiT-XL/2 at 256 px."""
    assert np.isclose(step_macs(MODELS["stdit-xl"]), 2.85e12, rtol=0.02)


def test_macs_of_stdit3_by_hand() -> None:
    """Per token and block 14 squares of the width; then attention over 256 places, 16 frames and 300 captions."""
    width, tokens = 1152, 4096
    linears = 14 * width**2 * tokens + 2 * width**2 * 300
    spatial, temporal = (linears + 2 * tokens * (seen + 300) * width for seen in (256, 16))
    assert step_macs(MODELS["stdit3-xl"].with_blocks(3)) == 3 * (spatial + temporal)
