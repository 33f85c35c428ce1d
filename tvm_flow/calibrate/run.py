"""The calibrate command: run the float model over real denoising trajectories and write down its ranges.

1. Read what an earlier run has left in the output file; it must belong to the same model, sampler and latent.
2. For every prompt that it lacks, denoise from the prompt's own noise and record each quantized linear's input.
3. Now and then, and on Ctrl-C, keep the steps that are done of that prompt (see `partial`), to go on from there.
4. After each prompt, join its ranges to those before and rewrite the file.

The result does not depend on the order in which prompts are finished or on interruptions: minima and maxima join in any
order. So prompts may be denoised elsewhere (`Shards`), several at a time. Nor does it depend on the environment's
number of threads: see `tvm_flow.numerics.thread_count`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.calibrate.identity import model_sha256
from tvm_flow.calibrate.partial import Partial
from tvm_flow.calibrate.prompts import CalibrationPrompt, expect_prompts
from tvm_flow.calibrate.ranges import Ranges, load_ranges, merge, save_ranges
from tvm_flow.calibrate.record import Recorder, ranges_bytes, recording
from tvm_flow.errors import CalibrationError, InterruptedCommand
from tvm_flow.model import AnyModel
from tvm_flow.numerics.thread_count import forward_threads, thread_count
from tvm_flow.room import expect_room
from tvm_flow.sampler import SamplerConfig, denoise, drawn_from, model_outputs

Embed = Callable[[list[str]], tuple[Tensor, Tensor]]
"""Captions as (tokens [B, L, caption_channels], mask bool [B, L]); raises PromptError for an unknown one."""

Shards = Callable[[Sequence[CalibrationPrompt]], Generator[Ranges]]
"""The ranges of each of some prompts, whichever is finished first."""


@dataclass(frozen=True)
class Denoising:
    """What is calibrated: ``model`` denoised by ``sampler`` from noise of the shape ``latent`` [C, T, H, W]."""

    model: AnyModel
    sampler: SamplerConfig
    latent: tuple[int, int, int, int]


def calibrate(
    denoising: Denoising,
    prompts: Sequence[CalibrationPrompt],
    embed: Embed,
    output: Path,
    progress: bool = True,
    shards: Shards | None = None,
) -> Ranges:
    """Calibrate on ``prompts`` into the file ``output``; what an earlier run has done is kept. Where ``shards`` is
    given it denoises them instead of this process, and the file gets the same bytes.

    Noise is drawn in float32 on the CPU by a generator with the prompt's seed; what a sampler's steps draw is what the
    C runtime draws for that seed. With nothing left to do, only ``output`` is read.

    Raises CalibrationError for an empty prompt list, an ``output`` of another model, sampler or latent, or
    activations that are not finite; PromptError from ``embed``; InterruptedCommand on Ctrl-C, with all finished
    steps kept.
    """
    expect_prompts(prompts)
    model, sampler = denoising.model, denoising.sampler
    wanted = Ranges(model_sha256(model), sampler, denoising.latent, (), {})
    done = _earlier(output, wanted)
    unique = list(dict.fromkeys(prompts))
    todo = [prompt for prompt in unique if done is None or prompt not in done.prompts]
    if todo:  # the file, the steps of an unfinished prompt, and the copy that replaces one of them
        expect_room(output, 3 * ranges_bytes(model, sampler.steps))
    captions = [embed([prompt.text]) for prompt in todo]  # an unknown one fails before hours of work
    before = (len(unique) - len(todo)) * sampler.steps
    total = len(unique) * sampler.steps
    partial = Partial(output, wanted)
    order = (done.prompts if done else ()) + tuple(todo)
    with tqdm(total=total, initial=before, desc="calibrate", unit="step", disable=not progress) as bar:

        def elsewhere(shards: Shards) -> Generator[Ranges]:
            for seen in shards(todo):
                bar.update(sampler.steps)
                yield seen

        here = (
            trajectory_ranges(model, prompt, caption, partial, bar.update)
            for prompt, caption in zip(todo, captions, strict=True)
        )
        try:
            with closing(here if shards is None else elsewhere(shards)) as found:
                for seen in found:
                    joined = _in_order(seen if done is None else merge(done, seen), order)
                    save_ranges(output, joined)
                    done = joined
                    partial.remove()
        except KeyboardInterrupt:
            raise _interrupted(output, done, unique, partial) from None
    assert done is not None
    return done


def trajectory_ranges(
    model: AnyModel,
    prompt: CalibrationPrompt,
    caption: tuple[Tensor, Tensor],
    partial: Partial,
    advance: Callable[[int], object] = lambda _: None,
) -> Ranges:
    """The ranges of one prompt's denoising; ``advance`` is called with the steps done since the last call.

    Model, sampler and latent are those that ``partial`` wants, and steps that it has are not run again; ``caption`` is
    tokens [1, L, caption_channels] and mask [1, L].
    """
    y, mask = caption
    wanted = partial.wanted
    _check_inputs(model, wanted.latent, prompt, y, mask)
    recorder = Recorder(model, wanted.sampler.steps, mask[0])
    inner = model_outputs(model, y, mask, wanted.sampler)
    noise = torch.randn(1, *wanted.latent, generator=torch.Generator().manual_seed(prompt.seed))
    start, z = partial.begin(recorder, prompt, caption, noise)

    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        recorder.step = step
        partial.take(recorder, step, z)
        advance(start if step == start else 1)  # after they are taken: what is shown as done is kept
        return inner(z, step, t)

    with thread_count(forward_threads(model)), recording(model, recorder):
        denoise(predict, z, wanted.sampler, drawn_from(prompt.seed, wanted.latent), start=start)
    advance(1)
    return Ranges(wanted.model_sha256, wanted.sampler, wanted.latent, (prompt,), recorder.ranges())


def _check_inputs(
    model: AnyModel, latent: tuple[int, int, int, int], prompt: CalibrationPrompt, y: Tensor, mask: Tensor
) -> None:
    config = model.config
    if latent[0] != config.in_channels:
        raise CalibrationError(f"latent: expected {config.in_channels} channels, got shape {list(latent)}")
    shape = (1, config.model_max_length, config.caption_channels)
    if tuple(y.shape) != shape or tuple(mask.shape) != shape[:2]:
        raise CalibrationError(
            f"prompt {prompt.text!r}: expected tokens of shape {list(shape)} and a mask of "
            f"{list(shape[:2])}, got {list(y.shape)} and {list(mask.shape)}; "
            f"use the encoder that the model was trained with"
        )
    if not mask.any():
        raise CalibrationError(f"prompt {prompt.text!r}: expected at least one token, got a mask of none")


def _in_order(ranges: Ranges, order: tuple[CalibrationPrompt, ...]) -> Ranges:
    """Whichever was finished first, the file names its prompts as one process would."""
    return replace(ranges, prompts=tuple(prompt for prompt in order if prompt in ranges.prompts))


def _earlier(output: Path, wanted: Ranges) -> Ranges | None:
    if not output.exists():
        return None
    found = load_ranges(output)
    for field in ("model_sha256", "sampler", "latent"):
        have, want = getattr(found, field), getattr(wanted, field)
        if have != want:
            raise CalibrationError(
                f"{output}: {field} differs; have {have} but require {want}; "
                f"choose another output, or delete this file to calibrate again"
            )
    return found


def _interrupted(
    output: Path, done: Ranges | None, prompts: Sequence[CalibrationPrompt], partial: Partial
) -> InterruptedCommand:
    steps = partial.write()
    finished = len(set(done.prompts) & set(prompts)) if done else 0
    more = f" and {steps} of {partial.wanted.sampler.steps} steps of the next" if steps else ""
    files = ([str(output)] if finished else []) + ([str(partial.path)] if steps else [])
    kept = f"{' and '.join(files)} hold{'s' if len(files) == 1 else ''} them" if files else "nothing was written"
    return InterruptedCommand(
        f"calibrate: interrupted after {finished} of {len(prompts)} prompts{more}; {kept}; "
        f"run the same command again to go on"
    )
