"""Any recipe's quantized linears inside the float model, in PyTorch: what `evaluate` runs.

The arithmetic is that of `numerics`: codes by one float32 division, rounded to even and saturated; sums over codes;
one product with scale * weight scale; the bias. Codes and their products are whole numbers, so that the float32 sums
are those of int32 while no partial sum can reach 2^24: K up to 1032 for 8 bits and symmetric activations, 514 with zero
points. Beyond that they are rounded as float sums are.

A gain is multiplied here in front of each linear, where a library has it folded into the layer before (`fold`): the
same numbers up to their rounding in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_flow.model import AnyModel
from tvm_flow.numerics.quantize import LEAST_SCALE, greatest_code
from tvm_flow.sampler import SamplerConfig, Velocity, model_outputs


@dataclass(frozen=True, eq=False)
class StaticCodes:
    """How an input becomes codes at each step and branch: ``scale``, ``zero`` float32 [steps, 2]; ``bits`` a step."""

    scale: Tensor
    zero: Tensor
    bits: tuple[int, ...]

    def encode(self, halves: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """[2, ..., K] -> codes less their zero point [2, ..., K], and their scale [2, 1, ...]."""
        shape = (2, *(1 for _ in halves.shape[1:]))
        scale, zero = self.scale[step].reshape(shape), self.zero[step].reshape(shape)
        most = greatest_code(self.bits[step])
        # round(x) + z, saturated, less z is round(x) saturated at ends moved by z.
        low, high = -most - 1 - zero, most - zero
        return torch.minimum(torch.maximum((halves / scale).round_(), low), high), scale


@dataclass(frozen=True)
class DynamicCodes:
    """A scale for each token, and with ``symmetric`` False a zero point, from the token's own range."""

    bits: int
    symmetric: bool

    def encode(self, halves: Tensor, step: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002  # the same at every step
        """As `StaticCodes.encode`; the scale is [2, ..., 1]."""
        most = greatest_code(self.bits)
        if self.symmetric:
            scale = halves.abs().amax(-1, keepdim=True) / most
            scale = torch.where(scale < float(LEAST_SCALE), 1.0, scale)
            return (halves / scale).round_().clamp_(-most - 1, most), scale
        low, high = halves.amin(-1, keepdim=True).clamp(max=0), halves.amax(-1, keepdim=True).clamp(min=0)
        scale = (high - low) / (2 * most + 1)
        scale = torch.where(scale < float(LEAST_SCALE), 1.0, scale)
        zero = (-most - 1 - low / scale).round_()
        return ((halves / scale).round_() + zero).clamp_(-most - 1, most).sub_(zero), scale


@dataclass(frozen=True, eq=False)
class SimulatedLayer:
    """One quantized linear.

    ============  ===========================================================================
    weight        float32 [N, K], whole numbers
    weight_scale  float32 [N]
    bias          float32 [steps, 2, N]
    gain          float32 [K]: 1 / smoothing; or None
    center        float32 [steps, 2, K], subtracted after the gain; or None
    codes         how the input is rounded
    float_steps   steps at which the linear stays as it is
    ============  ===========================================================================
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    gain: Tensor | None
    center: Tensor | None
    codes: StaticCodes | DynamicCodes
    float_steps: frozenset[int]

    def run(self, x: Tensor, step: int) -> Tensor:
        """[2 * n, ..., K] -> [2 * n, ..., N]; the first half is cond, the second uncond."""
        halves = self.shifted(x.unflatten(0, (2, -1)), step)  # type: ignore[no-untyped-call]
        codes, scale = self.codes.encode(halves, step)
        total = F.linear(codes, self.weight)
        return total.mul_(scale * self.weight_scale).add_(_rows(self.bias[step], total)).flatten(0, 1)

    def shifted(self, halves: Tensor, step: int) -> Tensor:
        """What is rounded: ``halves`` [2, ..., K] times the gain, less the center."""
        if self.gain is not None:
            halves = halves * self.gain
        return halves if self.center is None else halves - _rows(self.center[step], halves)


def _rows(vectors: Tensor, like: Tensor) -> Tensor:
    """[2, C] -> [2, 1, ..., C] with the axes of ``like``."""
    return vectors.reshape(2, *(1 for _ in like.shape[1:-1]), -1)


@dataclass(frozen=True, eq=False)
class Float16Layer:
    """A linear whose input, weights and output are rounded to float16; sums are float32's."""

    weight: Tensor
    bias: Tensor

    def run(self, x: Tensor, step: int) -> Tensor:  # noqa: ARG002  # the same at every step
        """[..., K] -> [..., N]."""
        return (x.half().float() @ self.weight.T + self.bias).half().float()


AnyLayer = SimulatedLayer | Float16Layer


@dataclass(eq=False)
class Clock:
    """Which step runs; the simulated linears read it."""

    step: int = 0


@contextmanager
def simulating(model: AnyModel, layers: Mapping[str, AnyLayer]) -> Iterator[Clock]:
    """Inside the block the linears ``layers`` of ``model`` compute as simulated; set the clock before each forward.

    Hooks on the linears stay in force. The model must run both branches in one batch, cond first.
    """
    clock = Clock()
    for name, layer in layers.items():
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        linear.__dict__["forward"] = _forward(linear, layer, clock)
    try:
        yield clock
    finally:
        for name in layers:
            model.get_submodule(name).__dict__.pop("forward", None)


def _forward(linear: nn.Linear, layer: AnyLayer, clock: Clock):  # type: ignore[no-untyped-def]
    kept = layer.float_steps if isinstance(layer, SimulatedLayer) else frozenset[int]()

    def forward(x: Tensor) -> Tensor:
        return F.linear(x, linear.weight, linear.bias) if clock.step in kept else layer.run(x, clock.step)

    return forward


def simulated_outputs(model: AnyModel, clock: Clock, caption: tuple[Tensor, Tensor], config: SamplerConfig) -> Velocity:
    """As `sampler.model_outputs`, of a model inside `simulating`; ``caption`` is tokens [B, L, D] and mask [B, L]."""
    outputs = model_outputs(model, *caption, config)

    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        clock.step = step
        return outputs(z, step, t)

    return predict
