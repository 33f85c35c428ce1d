"""Training's parts: what a minibatch holds, the schedule, resuming, and that a few steps learn something."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tvm_flow.demo import WEIGHTS, load_captions, load_vae
from tvm_flow.demo.captions import all_captions, all_scenes
from tvm_flow.demo.clips import Garments
from tvm_flow.model import STDiT, STDiT3, Video, load_checkpoint
from tvm_flow.quality.judge import Judge
from tvm_flow.sampler import SamplerConfig
from tvm_flow.train.train import DEMO_CONFIG, STDIT_CONFIG, save_model, train
from tvm_flow.train.train_data import Batches, LatentClips, NoisyBatches, encode_clips, shift_time
from tvm_flow.train.train_flow import FlowTraining, held_out_loss, initialise, learning_rate, train_flow
from tvm_flow.train.train_judge import disturb, train_judge

TINY = replace(DEMO_CONFIG, depth=1, hidden=16, heads=2)
RUN = FlowTraining(steps=6, batch=4, warmup=2, save_every_s=1e9)


@pytest.fixture(scope="module")
def clips(garments: Garments) -> LatentClips:
    return encode_clips(garments, load_vae(), 1, seed=0)


def batches(clips: LatentClips, drop: float = 0.0, seed: int = 0) -> Batches:
    captions = load_captions()
    return Batches(clips, captions.tokens, captions.lengths, batch=16, drop=drop, seed=seed)


def tiny_run(clips: LatentClips, run: FlowTraining, state: Path) -> STDiT3:
    captions = load_captions()
    torch.manual_seed(0)
    return train_flow(STDiT3(TINY), clips, captions.tokens, captions.lengths, run, state)


def test_every_scene_is_encoded(clips: LatentClips) -> None:
    assert clips.scenes.tolist() == list(range(96))
    assert clips.latents.shape == (96, 8, 8, 8, 8)
    assert clips.latents.dtype == torch.float16


def test_training_times_are_the_samplers_transform() -> None:
    grid = SamplerConfig(steps=10, ratio=3.0).timesteps() / 1000
    even = torch.tensor([1 - i / 10 for i in range(10)], dtype=torch.float64)
    torch.testing.assert_close(shift_time(even), torch.from_numpy(grid))


def test_velocity_leads_from_noise_to_data(clips: LatentClips) -> None:
    z, t, _, _, velocity = batches(clips).draw(torch.zeros(12, 384))
    data = z + (t / 1000)[:, None, None, None, None] * velocity
    distance = (data[:, None] - clips.latents[None].float()).flatten(2).abs().amax(2)
    assert (distance.amin(1) < 1e-4).all()
    assert t.min() >= 0
    assert t.max() <= 1000
    assert (t.sort().values.diff() > 0).all()


def test_noise_and_schedule_lead_to_the_data(clips: LatentClips) -> None:
    """z = sqrt(a) data + sqrt(1 - a) noise at the schedule's a; wherever that is not nearly noise alone."""
    captions = load_captions()
    source = NoisyBatches(clips, captions.tokens, captions.lengths, batch=16, drop=0.0, seed=0)
    z, t, _, _, noise = source.draw(torch.zeros(12, 384))
    assert ((t == t.round()) & (t >= 0) & (t <= 999)).all()
    kept = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))[t.long()].float()[:, None, None, None, None]
    data = (z - (1 - kept).sqrt() * noise) / kept.sqrt()
    distance = (data[:, None] - clips.latents[None].float()).flatten(2).abs().amax(2).amin(1)
    clear = kept.flatten() > 0.01
    # z and the subtraction are rounded in float32: 2^-24 of values below 8, twice, over sqrt(kept) >= 0.1.
    assert clear.sum() > 8 and (distance[clear] < 2 * 8 * 2**-24 * 2 / 0.1).all()


def test_an_stdit_learns_to_predict_noise(clips: LatentClips, tmp_path: Path) -> None:
    captions = load_captions()
    torch.manual_seed(0)
    run = FlowTraining(steps=30, batch=8, warmup=5, ema=0.5)
    model = STDiT(replace(STDIT_CONFIG, depth=1, hidden=16, heads=2))
    ema = train_flow(model, clips, captions.tokens, captions.lengths, run, tmp_path / "state.pt")
    assert isinstance(ema, STDiT)
    assert held_out_loss(ema, clips, captions.tokens, captions.lengths) < 0.97  # 1 without anything learned
    save_model(ema, tmp_path)
    assert isinstance(load_checkpoint(tmp_path), STDiT)


def test_captions_belong_to_their_clips(clips: LatentClips) -> None:
    captions = load_captions()
    z, t, y, mask, velocity = batches(clips).draw(torch.zeros(12, 384))
    data = z + (t / 1000)[:, None, None, None, None] * velocity
    rows = (data[:, None] - clips.latents[None].float()).flatten(2).abs().amax(2).argmin(1)
    scenes = [all_scenes()[clips.scenes[row]] for row in rows]
    table = torch.stack([tokens for tokens, _ in captions.values()])
    for tokens, valid, scene in zip(y, mask, scenes, strict=True):
        name = list(captions)[int((table - tokens).abs().amax((1, 2)).argmin())]
        assert all_captions()[name] == scene
        assert int(valid.sum()) == captions[name][1]


def test_dropped_captions_become_the_null_caption(clips: LatentClips) -> None:
    null = torch.full((12, 384), 7.0)
    assert (batches(clips, drop=1.0).draw(null)[2] == 7.0).all()
    assert not (batches(clips, drop=0.0).draw(null)[2] == 7.0).all((1, 2)).any()
    source = batches(clips, drop=0.5)
    share = torch.stack([(source.draw(null)[2] == 7.0).all((1, 2)).float() for _ in range(20)]).mean()
    assert 0.4 < share < 0.6


def test_learning_rate_rises_holds_and_falls() -> None:
    run = FlowTraining(steps=1000, warmup=100, decay=0.4, rate=1.0)
    assert learning_rate(0, run) == pytest.approx(0.01)
    assert learning_rate(99, run) == learning_rate(500, run) == 1.0
    assert learning_rate(800, run) == pytest.approx(0.5)
    assert learning_rate(999, run) == pytest.approx(1 / 400)


def test_a_fresh_model_predicts_no_velocity(clips: LatentClips) -> None:
    torch.manual_seed(0)
    model = STDiT3(TINY)
    initialise(model)
    z, t, y, mask, _ = batches(clips).draw(model.y_embedder.y_embedding)
    assert not model(z, t, y, mask, Video(8.0, 32, 32)).any()


def test_resumed_training_is_uninterrupted_training(tmp_path: Path, clips: LatentClips) -> None:
    whole = tiny_run(clips, RUN, tmp_path / "whole.pt").state_dict()
    # Stopped after 3 of 6 steps: the schedule depends on the length of the run, so only the state is cut.
    half = tmp_path / "half.pt"
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tvm_flow.train.train_flow.learning_rate", Interrupt(after=3))
        tiny_run(clips, replace(RUN, save_every_s=-1.0), half)
    assert torch.load(half, weights_only=True)["step"] == 3
    resumed = tiny_run(clips, RUN, half).state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, msg=key)


class Interrupt:
    """learning_rate that raises Ctrl-C after some calls."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, step: int, run: FlowTraining) -> float:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return learning_rate(step, run)


def test_a_few_steps_lower_the_held_out_loss(tmp_path: Path, clips: LatentClips) -> None:
    captions = load_captions()
    run = FlowTraining(steps=40, batch=8, warmup=5, save_every_s=1e9)
    model = tiny_run(clips, run, tmp_path / "state.pt")
    before = STDiT3(TINY)
    initialise(before)
    losses = [held_out_loss(m, clips, captions.tokens, captions.lengths) for m in (before, model)]
    assert losses[1] < 0.93 * losses[0]


def test_saved_model_loads_as_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = STDiT3(TINY)
    save_model(model, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == TINY
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float())


def test_disturbed_garments_stay_in_range_and_place(garments: Garments) -> None:
    torch.manual_seed(0)
    frames = disturb(garments.images)
    assert frames.shape == (48, 32, 32)
    assert frames.amin() >= 0
    assert frames.amax() <= 1
    assert torch.allclose(frames.sum((1, 2)).log2(), garments.images.sum((1, 2)).log2(), atol=1.5)


def test_judge_training_learns_its_images(tmp_path: Path, garments: Garments) -> None:
    judge = train_judge(garments, tmp_path / "judge.safetensors", epochs=60, batch=32)
    assert isinstance(judge, Judge)
    torch.manual_seed(1)
    right = judge(disturb(garments.images)).argmax(1) == garments.labels
    assert right.float().mean() > 0.5
    assert (tmp_path / "judge.safetensors").exists()


def test_one_command_fills_what_is_missing(tmp_path: Path, garments: Garments, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("captions", "vae", "judge"):
        shutil.copy(WEIGHTS / f"{name}.safetensors", tmp_path)
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    monkeypatch.setattr("tvm_flow.train.train.read_garments", lambda _split: garments)
    monkeypatch.setattr("tvm_flow.train.train.CLIPS_PER_SCENE", 1)
    monkeypatch.setattr("tvm_flow.train.train.DEMO_CONFIG", TINY)
    monkeypatch.setattr("tvm_flow.train.train.measure", lambda *_: {"measured": True})
    threads = torch.get_num_threads()
    report = train(tmp_path, RUN)
    torch.set_num_threads(threads)
    assert report == {"run": asdict(RUN), "measured": True}
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert load_checkpoint(tmp_path).config == TINY
    assert torch.load(tmp_path / "flow.pt", weights_only=True)["step"] == RUN.steps
