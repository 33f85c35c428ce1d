"""How far the tensors between quantized linears reach, over real denoising trajectories.

A block in integers has codes where others have floats: of the residual, of what each linear gives, and of q and k after
their norms. Their scales come from here, as those of the linears' inputs come from `record` and `samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tvm_flow.calibrate.layers import block_names, layer_names
from tvm_flow.calibrate.prompts import CalibrationPrompt, expect_prompts
from tvm_flow.calibrate.run import Denoising, Embed
from tvm_flow.calibrate.samples import follow
from tvm_flow.errors import CalibrationError
from tvm_flow.model.layers import RMSNorm

RESIDUAL = "residual"
Reach = Mapping[str, Tensor]
"""Greatest magnitudes float32 [steps, 2, N]: of a layer's result by its name and channel; of a head's q and k after
``<block>.attn.q_norm``, pairs of channels by their length, which turning them leaves as it is; of all blocks' residual
as `RESIDUAL` [steps, 2, 1]."""


@dataclass(eq=False)
class _Seen:
    """``step`` is set before each forward, ``mask`` before each prompt."""

    steps: int
    step: int = 0
    mask: Tensor = field(default_factory=lambda: torch.empty(0))
    found: dict[str, Tensor] = field(default_factory=dict)

    def see(self, name: str, x: Tensor) -> None:
        """Take ``x`` [2 * n, ..., N], whose first half is cond."""
        halves = x.detach().float().unflatten(0, (2, -1))  # type: ignore[no-untyped-call]
        if name.endswith("cross_attn.kv_linear"):
            halves = halves[:, :, self.mask]
        most = halves.flatten(1, -2).abs().amax(1)
        if not bool(most.isfinite().all()):
            raise CalibrationError(
                f"{name}: expected finite values at step {self.step}, got NaN or infinity; check the float model"
            )
        if name not in self.found:
            self.found[name] = torch.zeros(self.steps, *most.shape)
        self.found[name][self.step] = torch.maximum(self.found[name][self.step], most)


def measure_reach(
    denoising: Denoising, prompts: Sequence[CalibrationPrompt], embed: Embed, progress: bool = True
) -> Reach:
    """The reach of every tensor between the linears of ``denoising.model``; raises CalibrationError."""
    expect_prompts(prompts)
    seen = _Seen(denoising.sampler.steps)
    handles = [module.register_forward_hook(hook) for module, hook in _hooks(denoising.model, seen)]
    try:
        for prompt in tqdm(prompts, desc="measure reach", unit="prompt", disable=not progress):
            caption = embed([prompt.text])
            seen.mask = caption[1][0].bool()
            follow(denoising, prompt, caption, seen)
    finally:
        for handle in handles:
            handle.remove()
    return seen.found


Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], None]


def _hooks(model: nn.Module, seen: _Seen) -> list[tuple[nn.Module, Hook]]:
    config = model.config
    found = [(model.get_submodule(name), _result(seen, name)) for name in layer_names(config)]  # type: ignore[arg-type]
    for name in block_names(config):  # type: ignore[arg-type]
        block = model.get_submodule(name)
        found += [(block, _residual(seen)), (block.get_submodule("cross_attn"), _first(seen))]
        for part in ("q_norm", "k_norm"):
            norm = block.get_submodule("attn").get_submodule(part)
            if isinstance(norm, RMSNorm):
                found.append((norm, _pairs(seen, f"{name}.attn.{part}")))
    return found


def _result(seen: _Seen, name: str) -> Hook:
    return lambda _, inputs, result: seen.see(name, result)  # noqa: ARG005


def _pairs(seen: _Seen, name: str) -> Hook:
    def hook(_: nn.Module, inputs: tuple[Any, ...], result: Tensor) -> None:  # noqa: ARG001
        seen.see(name, result.unflatten(-1, (-1, 2)).norm(dim=-1))  # type: ignore[no-untyped-call]

    return hook


def _residual(seen: _Seen) -> Hook:
    def hook(_: nn.Module, inputs: tuple[Any, ...], result: Tensor) -> None:
        for x in (inputs[0], result):
            seen.see(RESIDUAL, x.flatten(1, -1)[..., None])

    return hook


def _first(seen: _Seen) -> Hook:
    return lambda _, inputs, result: seen.see(RESIDUAL, inputs[0].flatten(1, -1)[..., None])  # noqa: ARG005
