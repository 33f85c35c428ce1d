"""Calibration against ranges taken by hand, and what interruption, resumption and damage leave behind."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.calibrate import (
    CalibrationPrompt,
    Denoising,
    Embed,
    Ranges,
    block_names,
    calibrate,
    layer_names,
    load_ranges,
    merge,
    model_sha256,
    save_ranges,
)
from tvm_flow.calibrate.record import Recorder, recording
from tvm_flow.errors import CalibrationError, InterruptedCommand, PromptError
from tvm_flow.model import AnyModel, STDiT3, Video
from tvm_flow.sampler import SamplerConfig, model_velocity, sample

Latent = tuple[int, int, int, int]


@pytest.fixture
def run(
    model: STDiT3,
    sampler: SamplerConfig,
    latent: Latent,
    prompts: list[CalibrationPrompt],
    embed: Embed,
    tmp_path: Path,
):
    """calibrate() with the fixtures as defaults, into ``ranges`` in a fresh folder."""

    def call(**changes: object) -> Ranges:
        arguments = {
            "model": model,
            "sampler": sampler,
            "latent": latent,
            "prompts": prompts,
            "embed": embed,
            "output": tmp_path / "ranges",
            "progress": False,
            **changes,
        }
        denoising = Denoising(*(arguments.pop(name) for name in ("model", "sampler", "latent")))  # type: ignore[arg-type]
        return calibrate(denoising, **arguments)  # type: ignore[arg-type]

    return call


def by_hand(
    model: AnyModel, sampler: SamplerConfig, latent: Latent, prompt: CalibrationPrompt, embed: Embed
) -> dict[str, list[list[Tensor]]]:
    """Inputs [step][branch] of every quantized linear: branches run one by one, with the padding cut off."""
    y, mask = embed([prompt.text])
    length = int(mask.sum())
    null = model.null_caption(1)[:, :length]
    inputs: dict[str, list[list[Tensor]]] = {
        name: [[] for _ in range(sampler.steps)] for name in layer_names(model.config)
    }
    trail = []
    z = torch.randn(1, *latent, generator=torch.Generator().manual_seed(prompt.seed))
    whole = model_velocity(model, y, mask, sampler)

    def remember(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        trail.append((z, t))
        return whole(z, step, t)

    sample(remember, z, sampler)
    for step, (z, t) in enumerate(trail):
        for tokens in (y[:, :length], null):
            handles = [
                model.get_submodule(name).register_forward_pre_hook(
                    lambda _m, x, name=name, step=step: inputs[name][step].append(x[0].flatten(0, -2))
                )
                for name in inputs
            ]
            model(z, torch.tensor([t]), tokens, mask[:, :length], Video(sampler.fps, 32.0, 32.0))
            for handle in handles:
                handle.remove()
    return inputs


@pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
def test_ranges_are_those_of_the_branches_run_alone_without_padding(
    run, model: AnyModel, sampler: SamplerConfig, latent: Latent, prompts: list[CalibrationPrompt], embed: Embed
) -> None:
    found = run(prompts=prompts[:2])
    expected = [by_hand(model, sampler, latent, prompt, embed) for prompt in prompts[:2]]
    for name, layer in found.layers.items():
        for step in range(sampler.steps):
            for branch in (0, 1):
                x = torch.cat([each[name][step][branch] for each in expected]).numpy()
                close = {"rtol": 1e-4, "atol": 1e-5}
                np.testing.assert_allclose(layer.min[step, branch], x.min(), **close)
                np.testing.assert_allclose(layer.max[step, branch], x.max(), **close)
                np.testing.assert_allclose(layer.absmax[step, branch], np.abs(x).max(0), **close)


@pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
def test_shapes_metadata_and_branches_that_differ(
    run, model: AnyModel, sampler: SamplerConfig, latent: Latent, prompts: list[CalibrationPrompt]
) -> None:
    found = run()
    assert tuple(found.layers) == layer_names(model.config)
    assert found.prompts == tuple(prompts) and found.sampler == sampler and found.latent == latent
    assert found.model_sha256 == model_sha256(model)
    first, last = block_names(model.config)[0], block_names(model.config)[-1]
    fc2 = found.layers[f"{first}.mlp.fc2"]
    assert fc2.absmax.shape == (3, 2, model.config.mlp_hidden) and fc2.min.dtype == np.float32
    kv = found.layers[f"{last}.cross_attn.kv_linear"]
    assert not np.array_equal(kv.max[:, 0], kv.max[:, 1])
    assert (kv.absmax == kv.absmax[:1]).all(), "captions do not depend on the step"


def test_a_finished_run_is_a_no_op(run, tmp_path: Path, embed: Embed) -> None:
    run()
    before = (tmp_path / "ranges").stat()
    asked: list[list[str]] = []
    run(embed=lambda texts: (asked.append(texts), embed(texts))[1])
    after = (tmp_path / "ranges").stat()
    assert not asked and (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_more_prompts_continue_and_order_does_not_matter(run, prompts: list[CalibrationPrompt], tmp_path: Path) -> None:
    run(prompts=prompts[2:])
    continued = run()
    whole = run(output=tmp_path / "whole")
    assert set(continued.prompts) == set(whole.prompts)
    for name, layer in whole.layers.items():
        np.testing.assert_array_equal(layer.absmax, continued.layers[name].absmax)
        np.testing.assert_array_equal(layer.min, continued.layers[name].min)


def test_merged_parts_are_the_whole(run, prompts: list[CalibrationPrompt], tmp_path: Path) -> None:
    parts = [run(prompts=[prompt], output=tmp_path / prompt.text) for prompt in prompts]
    merged, whole = merge(merge(parts[0], parts[1]), parts[2]), run()
    save_ranges(tmp_path / "merged", merged)
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "ranges").read_bytes()
    assert merged.prompts == whole.prompts


def test_a_prompt_given_twice_runs_once(run, prompts: list[CalibrationPrompt]) -> None:
    assert run(prompts=[prompts[0], prompts[0]]).prompts == (prompts[0],)


class InterruptAfter:
    """A model that raises KeyboardInterrupt at its n-th forward."""

    def __init__(self, model: STDiT3, forwards: int) -> None:
        self.left = forwards
        self.handle = model.register_forward_pre_hook(self.count)

    def count(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


SAMPLERS = [
    SamplerConfig(steps=3, cfg_scale=2.0, fps=8.0, frames=2, height=32, width=32),
    SamplerConfig(steps=3, name="iddpm", cfg_scale=2.0, frames=2, height=32, width=32),
    SamplerConfig(steps=3, name="ddim", eta=0.5, cfg_scale=2.0, frames=2, height=32, width=32),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
@pytest.mark.parametrize("forwards", [0, 1, 2, 3, 5, 8])
def test_ctrl_c_keeps_every_finished_step_and_a_second_run_goes_on_to_the_same_bytes(
    run, model: STDiT3, sampler: SamplerConfig, tmp_path: Path, forwards: int
) -> None:
    whole = run(sampler=sampler, output=tmp_path / "whole")
    mine, (finished, steps) = copy.deepcopy(model), divmod(forwards, 3)
    stop = InterruptAfter(mine, forwards)
    told = f" and {steps} of 3 steps of the next" if steps else ""
    with pytest.raises(InterruptedCommand, match=f"after {finished} of 3 prompts{told};.*run the same") as caught:
        run(sampler=sampler, model=mine)
    kept = [str(tmp_path / "ranges")] * bool(finished) + [str(tmp_path / ".ranges.partial")] * bool(steps)
    assert (f"{' and '.join(kept)} hold" if kept else "nothing was written") in str(caught.value)
    assert {str(path) for path in tmp_path.iterdir()} == {*kept, str(tmp_path / "whole")}
    if finished:
        assert load_ranges(tmp_path / "ranges").prompts == whole.prompts[:finished]
    assert not any(module._forward_pre_hooks for name, module in mine.named_modules() if name)
    stop.handle.remove()
    forward_count = InterruptAfter(mine, 9 - forwards)  # a tenth forward in all would be an interrupt
    run(sampler=sampler, model=mine)
    forward_count.handle.remove()
    assert (tmp_path / "ranges").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranges", "whole"]


def interrupted(run, model: STDiT3, forwards: int, **changes: object) -> STDiT3:
    """A copy of ``model``, which was interrupted at its n-th forward."""
    mine = copy.deepcopy(model)
    stop = InterruptAfter(mine, forwards)
    with pytest.raises(InterruptedCommand):
        run(model=mine, **changes)
    stop.handle.remove()
    return mine


def test_steps_of_another_embedding_are_not_gone_on_from(
    run, model: STDiT3, embed: Embed, prompts: list[CalibrationPrompt], tmp_path: Path
) -> None:
    def other(texts: list[str]) -> tuple[Tensor, Tensor]:
        tokens, mask = embed(texts)
        return tokens + 1, mask

    run(prompts=prompts[:1], embed=other, output=tmp_path / "whole")
    mine = interrupted(run, model, 2, prompts=prompts[:1])
    run(model=mine, prompts=prompts[:1], embed=other)
    assert (tmp_path / "ranges").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("left, flipped", [(-10, 0), (None, 1)], ids=["cut off", "another value"])
def test_damaged_steps_are_run_again(run, model: STDiT3, tmp_path: Path, left: int | None, flipped: int) -> None:
    run(output=tmp_path / "whole")
    mine = interrupted(run, model, 2)
    partial = tmp_path / ".ranges.partial"
    whole = partial.read_bytes()
    partial.write_bytes((whole[:-1] + bytes([whole[-1] ^ flipped]))[:left])
    run(model=mine)
    assert (tmp_path / "ranges").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not partial.exists()


def test_steps_are_kept_while_a_prompt_runs_in_case_the_process_dies(
    run, model: STDiT3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvm_flow.calibrate.partial.SECONDS", 0.0)
    monkeypatch.setattr("tvm_flow.calibrate.partial.SHARE", 0)
    monkeypatch.setattr("tvm_flow.calibrate.run._interrupted", lambda *_: InterruptedCommand("dead before a word"))
    run(output=tmp_path / "whole")
    mine = interrupted(run, model, 2)
    assert (tmp_path / ".ranges.partial").exists()
    rest = InterruptAfter(mine, 7)
    run(model=mine)
    rest.handle.remove()
    assert (tmp_path / "ranges").read_bytes() == (tmp_path / "whole").read_bytes()


def test_ctrl_c_while_the_file_is_written_keeps_the_one_before(
    run, tmp_path: Path, prompts: list[CalibrationPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(prompts=prompts[:1])
    before = (tmp_path / "ranges").read_bytes()

    def torn(_tensors: object, path: Path, _metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("tvm_flow.calibrate.ranges.save_file", torn)
    with pytest.raises(InterruptedCommand, match="interrupted after 1 of 3 prompts and 2 of 3 steps of the next"):
        run()
    assert (tmp_path / "ranges").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ranges.partial", "ranges"]


def test_progress_counts_steps_and_starts_where_the_last_run_ended(
    run, prompts: list[CalibrationPrompt], capsys: pytest.CaptureFixture[str]
) -> None:
    run(prompts=prompts[:1], progress=True)
    assert "3/3" in capsys.readouterr().err
    run(progress=True)
    shown = capsys.readouterr().err
    assert "3/9" in shown and "9/9" in shown


def test_no_prompts_are_refused(run) -> None:
    with pytest.raises(CalibrationError, match="prompts: expected at least one, got none"):
        run(prompts=[])


def test_an_unknown_prompt_fails_before_anything_runs(run, prompts: list[CalibrationPrompt], tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="'four': unknown"):
        run(prompts=[*prompts, CalibrationPrompt("four", 0)])
    assert not (tmp_path / "ranges").exists()


def test_a_prompt_without_tokens_is_refused(run) -> None:
    with pytest.raises(CalibrationError, match="prompt 'one': expected at least one token, got a mask of none"):
        run(embed=lambda _texts: (torch.zeros(1, 5, 8), torch.zeros(1, 5, dtype=torch.bool)))


def test_inputs_of_another_shape_are_refused(run) -> None:
    with pytest.raises(CalibrationError, match=r"latent: expected 4 channels, got shape \[3, 2, 5, 4\]"):
        run(latent=(3, 2, 5, 4))
    wide = (torch.zeros(1, 5, 9), torch.ones(1, 5, dtype=torch.bool))
    with pytest.raises(CalibrationError, match=r"prompt 'one': expected tokens of shape \[1, 5, 8\] .*got \[1, 5, 9\]"):
        run(embed=lambda _texts: wide)


def test_an_output_of_something_else_is_refused_and_kept(run, model: STDiT3, tmp_path: Path) -> None:
    run()
    before = (tmp_path / "ranges").read_bytes()
    other = copy.deepcopy(model)
    other.final_layer.linear.bias.data[0] += 1
    with pytest.raises(CalibrationError, match=r"ranges: model_sha256 differs; have .* but require .*; choose another"):
        run(model=other)
    with pytest.raises(CalibrationError, match=r"ranges: sampler differs; have .*steps=3.* but require .*steps=4"):
        run(sampler=SamplerConfig(steps=4, frames=2, height=32, width=32))
    with pytest.raises(CalibrationError, match="ranges: latent differs"):
        run(latent=(4, 2, 4, 4))
    (tmp_path / "ranges").write_bytes(before[:50])
    with pytest.raises(CalibrationError, match="expected a readable ranges file"):
        run()


def test_activations_that_are_not_finite_are_refused(run, model: STDiT3, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    other.spatial_blocks[0].attn.qkv.bias.data[-1] = torch.inf
    with pytest.raises(
        CalibrationError, match=r"spatial_blocks.0.attn.proj: expected finite inputs at step 0, got NaN"
    ):
        run(model=other)
    assert not (tmp_path / "ranges").exists()


def test_an_unfinished_trajectory_has_no_ranges(model: STDiT3, embed: Embed) -> None:
    y, mask = embed(["one"])
    recorder = Recorder(model, 2, mask[0])
    with recording(model, recorder):
        arguments = (
            torch.tensor([500.0, 500.0]),
            torch.cat([y, y]),
            torch.cat([mask, mask]),
            Video(8.0, 32.0, 32.0),
        )
        model(torch.zeros(2, 4, 2, 4, 4), *arguments)
    with pytest.raises(CalibrationError, match="expected every step to have run"):
        recorder.ranges()


def test_model_sha256_sees_every_parameter_and_the_config(model: STDiT3) -> None:
    hashes = {model_sha256(model)}
    for name, parameter in model.state_dict().items():
        other = copy.deepcopy(model)
        other.state_dict()[name].view(-1)[-1] = parameter.view(-1)[-1] + 1
        hashes.add(model_sha256(other))
    assert len(hashes) == len(model.state_dict()) + 1
    assert model_sha256(copy.deepcopy(model)) in hashes
