"""Rows of the quantized linears' inputs over real denoising trajectories, and each channel's range over all rows.

What is fitted by a layer's output error (clipping, rounding, means) needs inputs, not only their ranges. A few rows of
every prompt, step and branch are kept, drawn with a fixed seed: the same prompts give the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tvm_flow.calibrate.layers import layer_names
from tvm_flow.calibrate.prompts import CalibrationPrompt, expect_prompts
from tvm_flow.calibrate.ranges import LayerRanges
from tvm_flow.calibrate.run import Denoising, Embed
from tvm_flow.errors import CalibrationError
from tvm_flow.numerics.thread_count import forward_threads, thread_count
from tvm_flow.sampler import denoise, drawn_from, model_outputs

ROWS = 12
"""Of each calibration prompt, step, branch and layer; 16 prompts make 192."""


@dataclass(frozen=True, eq=False)
class LayerSamples:
    """``rows`` float32 [steps, 2, n, K]; ``low``, ``high`` float32 [steps, 2, K], over all rows that were seen."""

    rows: Tensor
    low: Tensor
    high: Tensor

    def ranges(self) -> LayerRanges:
        """What `calibrate` records of the same rows."""
        absmax = torch.maximum(-self.low, self.high)
        return LayerRanges(self.low.amin(-1).numpy(), self.high.amax(-1).numpy(), absmax.numpy())


Samples = Mapping[str, LayerSamples]
"""By layer name."""


def sample_inputs(
    denoising: Denoising,
    prompts: Sequence[CalibrationPrompt],
    embed: Embed,
    rows: int,
    progress: bool = True,
    clock: Watch | None = None,
) -> Samples:
    """``rows`` of each prompt, step and branch, of every quantized linear of ``denoising.model``.

    Trajectories are those of `calibrate`; a ``clock`` is told their steps, too. Raises CalibrationError for no prompts
    and for inputs that are not finite.
    """
    expect_prompts(prompts)
    seen = {name: _Seen() for name in layer_names(denoising.model.config)}
    for index, prompt in enumerate(tqdm(prompts, desc="sample inputs", unit="prompt", disable=not progress)):
        caption = embed([prompt.text])
        watch = _Watch(seen, rows, index, caption[1][0].bool())
        _run(denoising, prompt, caption, watch, clock)
    return {name: each.samples() for name, each in seen.items()}


class _Seen:
    """One layer's rows and channel ranges, one list for each step."""

    def __init__(self) -> None:
        self.rows: list[list[Tensor]] = []
        self.low: list[Tensor] = []
        self.high: list[Tensor] = []

    def take(self, step: int, halves: Tensor, chosen: Tensor) -> None:
        """``halves`` [2, R, K] at ``step``; keep the rows ``chosen``."""
        low, high = halves.amin(1), halves.amax(1)
        if step == len(self.low):
            self.rows.append([])
            self.low.append(low)
            self.high.append(high)
        self.rows[step].append(halves[:, chosen].clone())
        self.low[step] = torch.minimum(self.low[step], low)
        self.high[step] = torch.maximum(self.high[step], high)

    def samples(self) -> LayerSamples:
        rows = torch.stack([torch.cat(each, dim=1) for each in self.rows])
        return LayerSamples(rows, torch.stack(self.low), torch.stack(self.high))


@dataclass(eq=False)
class _Watch:
    """What the hooks of one prompt's trajectory need; ``step`` is set before each forward."""

    seen: Mapping[str, _Seen]
    rows: int
    prompt: int
    mask: Tensor
    step: int = 0

    def see(self, name: str, x: Tensor) -> None:
        halves = x.detach().float().unflatten(0, (2, -1))  # type: ignore[no-untyped-call]
        if name.endswith("cross_attn.kv_linear"):
            halves = halves[:, :, self.mask]
        halves = halves.flatten(1, -2)
        if not bool(halves.isfinite().all()):
            raise CalibrationError(
                f"{name}: expected finite inputs at step {self.step}, got NaN or infinity; check the float model"
            )
        count = halves.shape[1]
        seed = np.random.default_rng((self.prompt, self.step))
        chosen = seed.choice(count, self.rows, replace=count < self.rows)
        self.seen[name].take(self.step, halves, torch.from_numpy(chosen))


def _run(
    denoising: Denoising,
    prompt: CalibrationPrompt,
    caption: tuple[Tensor, Tensor],
    watch: _Watch,
    clock: Watch | None,
) -> None:
    model = denoising.model
    handles = [model.get_submodule(name).register_forward_pre_hook(_hook(watch, name)) for name in watch.seen]
    try:
        follow(denoising, prompt, caption, watch, *([] if clock is None else [clock]))
    finally:
        for handle in handles:
            handle.remove()


class Watch(Protocol):
    """What is told the step before each forward."""

    step: int


def follow(denoising: Denoising, prompt: CalibrationPrompt, caption: tuple[Tensor, Tensor], *watches: Watch) -> None:
    """Denoise ``prompt`` as `calibrate` does, for what hooks see of it."""
    model, sampler = denoising.model, denoising.sampler
    outputs = model_outputs(model, *caption, sampler)

    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        for watch in watches:
            watch.step = step
        return outputs(z, step, t)

    noise = torch.randn(1, *denoising.latent, generator=torch.Generator().manual_seed(prompt.seed))
    with thread_count(forward_threads(model)):
        denoise(predict, noise, sampler, drawn_from(prompt.seed, denoising.latent))


def _hook(watch: _Watch, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        watch.see(name, inputs[0])

    return hook
