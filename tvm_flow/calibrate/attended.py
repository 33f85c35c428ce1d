"""How far q, k and v reach where attention multiplies them: after norms and rope, over real denoising trajectories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.calibrate.layers import layer_names
from tvm_flow.calibrate.prompts import CalibrationPrompt, expect_prompts
from tvm_flow.calibrate.run import Denoising, Embed
from tvm_flow.calibrate.samples import follow
from tvm_flow.errors import CalibrationError
from tvm_flow.model import AnyModel
from tvm_flow.model.config import ModelConfig
from tvm_flow.model.layers import Attention, attend

Attended = Mapping[str, Tensor]
"""Greatest magnitudes float32 [steps, 2, 3] of q, k and v, by the attention's module path; no padded k and v."""
Mixed = Callable[..., Tensor]
"""As `attend`."""


def attention_names(config: ModelConfig) -> tuple[str, ...]:
    """The attentions as module paths, in the order they run: each has a projection of its own."""
    return tuple(name.removesuffix(".proj") for name in layer_names(config) if name.endswith(".proj"))


@contextmanager
def attending(model: AnyModel, ways: Mapping[str, Mixed]) -> Iterator[None]:
    """Inside the block the attentions ``ways`` of ``model`` mix as told."""
    for name, way in ways.items():
        attention = model.get_submodule(name)
        assert isinstance(attention, Attention)
        attention.__dict__["mixed"] = way
    try:
        yield
    finally:
        for name in ways:
            model.get_submodule(name).__dict__.pop("mixed", None)


@torch.no_grad()
def measure_attended(
    denoising: Denoising, prompts: Sequence[CalibrationPrompt], embed: Embed, progress: bool = False
) -> Attended:
    """What every attention of ``denoising.model`` multiplies; raises CalibrationError for none or not finite."""
    expect_prompts(prompts)
    names = attention_names(denoising.model.config)
    seen = _Seen({name: torch.zeros(denoising.sampler.steps, 2, 3) for name in names})
    with attending(denoising.model, {name: partial(seen.mixed, name) for name in names}):
        for prompt in tqdm(prompts, desc="measure attention", unit="prompt", disable=not progress):
            follow(denoising, prompt, embed([prompt.text]), seen)
    return seen.found


@dataclass(eq=False)
class _Seen:
    """``step`` is set before each forward."""

    found: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0

    def mixed(self, name: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """`attend`, once q, k and v [2 * n, heads, L, d] are seen; the first half is cond."""
        there = slice(None) if bias is None else bias[0, 0, 0] == 0  # one caption, so one mask
        most = [x.float().abs().reshape(2, -1).amax(1) for x in (q, k[:, :, there], v[:, :, there])]
        now = torch.stack(most, dim=-1)
        if not bool(now.isfinite().all()):
            raise CalibrationError(
                f"{name}: expected finite q, k and v at step {self.step}, got NaN or infinity; check the float model"
            )
        self.found[name][self.step] = torch.maximum(self.found[name][self.step], now)
        return attend(q, k, v, bias)
