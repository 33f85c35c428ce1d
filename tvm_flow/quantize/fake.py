"""The quantized model in PyTorch, for quality work: rounded as it should be, then computed in float.

Never the oracle for a compiled library (that is numerics, in integers): sums here are float sums.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_flow.calibrate import BRANCHES, block_names, layer_kinds
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyModel, STDiT3Block, STDiTBlock
from tvm_flow.model.checkpoint import empty_model
from tvm_flow.quantize.fake_blocks import FakeBlock, FakeStep, as_tensor
from tvm_flow.quantize.quantized import Floats, QuantizedLayer, QuantizedModel
from tvm_flow.sampler import Velocity


class FakeLinear(nn.Module):
    """One quantized linear at one step and branch; weights are dequantized once."""

    def __init__(self, layer: QuantizedLayer, step: int, branch: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_float = bool(layer.float_steps[step])
        weight = layer.weight_f if self.in_float else _dequantized(layer)
        assert weight is not None
        self.weight, self.bias = as_tensor(weight, dtype), as_tensor(layer.bias_at(step, branch), dtype)
        self.gain = None if layer.input_gain is None else as_tensor(layer.input_gain, dtype)
        self.scale = float(layer.scale[step, branch])
        self.zero = 0 if layer.zero_point is None else int(layer.zero_point[step, branch])

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        x = x if self.gain is None else x * self.gain
        if not self.in_float:
            q = ((x / self.scale).round() + self.zero).clamp(-128, 127)
            x = (q - self.zero) * self.scale
        return F.linear(x, self.weight, self.bias)


class FakeQuant:
    """Velocity of a quantized model at one step and branch, from its folded vectors; needs no timestep."""

    def __init__(self, quantized: QuantizedModel, step: int, branch: int, dtype: torch.dtype = torch.float32) -> None:
        """``branch`` 0 cond, 1 uncond; ``dtype`` float32, or float64 to tell folding from rounding.

        Raises QuantizeError for attention in int8, which has no such model.
        """
        if quantized.recipe.attention == "int8":
            raise QuantizeError(
                "fake quantization: expected attention in float, got int8; use `simulated_attention` beside `simulated`"
            )
        self.step = FakeStep(quantized, step, branch, dtype)
        self.shell = _shell(quantized).to(dtype)  # patches, caption and final projection
        self.blocks = [self._block(name, branch) for name in block_names(quantized.config)]

    @torch.no_grad()
    def __call__(self, z: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """z [B, C, T, H, W], y [B, L, caption_channels], mask bool [B, L] -> float32 [B, 2 * C, T, H, W]."""
        step, shell = self.step, self.shell
        patches = shell.x_embedder(z.to(step.dtype))
        frames, h, w = patches.shape[2:]
        grid = patches.permute(0, 2, 3, 4, 1).flatten(2, 3)
        x = (grid + step.table("position_embedding")).flatten(1, 2)
        caption, bias = shell.y_embedder(y.to(step.dtype)), shell.caption_bias(mask)
        for block in self.blocks:
            x = block.run(step, x, caption, bias, frames)
        x = shell.final_layer.linear(step.modulated(x, "final"))
        return shell.unpatchify(x, (frames, h, w), z.shape[2:]).float()

    def _block(self, name: str, branch: int) -> FakeBlock:
        source, quantized = self.shell.get_submodule(name), self.step.quantized
        assert isinstance(source, STDiTBlock | STDiT3Block)
        for kind in layer_kinds(quantized.config):
            parent, child = kind.split(".")
            layer = quantized.layers[f"{name}.{kind}"]
            setattr(source.get_submodule(parent), child, FakeLinear(layer, self.step.step, branch, self.step.dtype))
        return FakeBlock(name, source, source.cross_attn, source.mlp)


def fake_velocity(quantized: QuantizedModel, y: Tensor, mask: Tensor) -> Velocity:
    """The fake-quantized model as a sampler's Velocity: the first half of the channels of `fake_outputs`."""
    outputs = fake_outputs(quantized, y, mask)

    def velocity(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        cond, uncond = outputs(z, step, t)
        return cond[:, : z.shape[1]], uncond[:, : z.shape[1]]

    return velocity


def fake_outputs(quantized: QuantizedModel, y: Tensor, mask: Tensor) -> Velocity:
    """All channels that the fake-quantized model puts out, as `sampler.model_outputs` does for the float model.

    y [B, L, caption_channels], mask bool [B, L]. Each step's weights are made when the step is reached and dropped
    after it.
    """
    null = torch.from_numpy(quantized.params["y_embedder.y_embedding"]).expand(len(y), -1, -1)
    captions = dict(zip(BRANCHES, (y, null), strict=True))

    def outputs(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        halves = [FakeQuant(quantized, step, branch)(z, captions[name], mask) for branch, name in enumerate(BRANCHES)]
        return halves[0], halves[1]

    return outputs


def _shell(quantized: QuantizedModel) -> AnyModel:
    """A model with the float parameters of ``quantized``; the rest stays uninitialised and is never run."""
    model = empty_model(quantized.config)
    params = {key: torch.from_numpy(value) for key, value in quantized.params.items()}
    model.load_state_dict(params, strict=False, assign=True)
    return model.eval().requires_grad_(False)


def _dequantized(layer: QuantizedLayer) -> Floats:
    assert layer.weight_q is not None and layer.weight_scale is not None
    return layer.weight_q.astype(np.float32) * layer.weight_scale[:, None]
