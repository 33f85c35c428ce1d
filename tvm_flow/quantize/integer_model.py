"""Blocks in integers as a quantized model keeps them: its layers with their gains, and the reach of what lies between.

A gain stays in front of its own linear (``input_gain``), where a block multiplies by it as it makes codes; nothing is
folded into a layer before. Of a reach only the greatest is kept for each part of a linear's results: q, k and v.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from tvm_flow.calibrate import layer_names
from tvm_flow.calibrate.reach import Reach
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyConfig, AnyModel
from tvm_flow.quantize.fold import split, weight_sqnr_db
from tvm_flow.quantize.integer_parts import IntegerBlock
from tvm_flow.quantize.integer_scheme import BlockMaker, Given, IntegerModel
from tvm_flow.quantize.quantized import Floats, QuantizedLayer, QuantizedModel
from tvm_flow.quantize.scheme import Scheme
from tvm_flow.quantize.simulated import SimulatedLayer, StaticCodes

PARTS = {"attn.qkv": 3, "attn_temp.qkv": 3, "cross_attn.kv_linear": 2}
"""Of linears whose results are several tensors, side by side."""
_VECTORS = ("msa_shift", "msa_scale", "msa_gate", "mlp_shift", "mlp_scale", "mlp_gate")


def integer_layers(model: AnyModel, scheme: Scheme) -> dict[str, QuantizedLayer]:
    """The linears of ``scheme``, that of a recipe whose blocks are in integers."""
    return {name: _layer(model, name, scheme.layers[name]) for name in layer_names(model.config)}


def _layer(model: AnyModel, name: str, layer: object) -> QuantizedLayer:
    assert isinstance(layer, SimulatedLayer) and isinstance(layer.codes, StaticCodes)
    gain = None if layer.gain is None else layer.gain.numpy()
    codes, scale, bias = layer.weight.numpy().astype(np.int8), layer.weight_scale.numpy(), layer.bias.numpy()
    weight = model.get_submodule(name).get_parameter("weight").detach().float().numpy()
    smoothed = weight if gain is None else weight / gain
    same = bool((bias == bias[0, 0]).all())
    return QuantizedLayer(
        weight_q=codes,
        weight_scale=scale,
        bias=np.ascontiguousarray(bias[0, 0] if same else bias),
        input_gain=gain,
        scale=layer.codes.scale.numpy(),
        zero_point=None,
        float_steps=np.zeros(len(layer.codes.bits), np.bool_),
        weight_f=None,
        sqnr_db=weight_sqnr_db(smoothed, codes, scale),
    )


def reduced_reach(reach: Reach) -> dict[str, Floats]:
    """float32 [steps, 2, parts] of every name: of `PARTS`, or 1."""
    found = {}
    for name, most in reach.items():
        parts = PARTS.get(split(name)[1], 1)
        found[name] = most.unflatten(-1, (parts, -1)).amax(-1).numpy()  # type: ignore[no-untyped-call]
    return found


def frames_of(config: AnyConfig, latent: tuple[int, int, int, int]) -> int:
    """Frames of tokens that a ``latent`` [C, T, H, W] has."""
    return -(-latent[1] // config.patch[0])


@dataclass(frozen=True)
class QuantizedBlocks:
    """The blocks of ``quantized``; raises QuantizeError of one that is not of a recipe between integer."""

    quantized: QuantizedModel

    def __post_init__(self) -> None:
        if self.quantized.recipe.between != "integer":
            raise QuantizeError("reach: expected that of a recipe between integer, got none; quantize with such a one")

    @cached_property
    def unit(self) -> Floats:
        """float32 [steps, 2]: of the residual's codes."""
        steps = range(self.quantized.sampler.steps)
        units = [[BlockMaker(self.model, "", step, branch).unit for branch in (0, 1)] for step in steps]
        return np.array(units, np.float32)

    @cached_property
    def model(self) -> IntegerModel:
        """Its layers as `IntegerModel` takes them."""
        layers = {name: _simulated(layer) for name, layer in self.quantized.layers.items()}
        return IntegerModel(layers, {name: torch.from_numpy(most) for name, most in self.quantized.reach.items()})

    def block(self, name: str, step: int, branch: int) -> IntegerBlock:
        """The block ``name`` at one step and branch."""
        vectors = np.stack([self.quantized.evaluate(f"{name}.{each}", step, branch) for each in _VECTORS])
        return BlockMaker(self.model, name, step, branch).block(vectors, self._given(name))

    def _given(self, name: str) -> Given:
        model, tables = self.quantized, self.quantized.tables
        frames, heads = frames_of(model.config, model.latent), model.config.heads
        if model.config.model_type == "STDiT":
            return Given(frames, heads, times=tables["time_embedding"] if name == "blocks.0" else None)
        q, k = (model.params[f"{name}.attn.{part}.weight"] for part in ("q_norm", "k_norm"))
        rope = (tables["rope_cos"], tables["rope_sin"]) if name.startswith("temporal") else None
        return Given(frames, heads, (q, k), rope)


def _simulated(layer: QuantizedLayer) -> SimulatedLayer:
    assert layer.weight_q is not None and layer.weight_scale is not None
    steps = len(layer.float_steps)
    gain = None if layer.input_gain is None else torch.from_numpy(layer.input_gain)
    scale, bias = torch.from_numpy(layer.scale), torch.from_numpy(layer.bias)
    codes = StaticCodes(scale, torch.zeros_like(scale), (8,) * steps)
    wide = bias.expand(steps, 2, -1) if bias.ndim == 1 else bias
    weight, weight_scale = torch.from_numpy(layer.weight_q), torch.from_numpy(layer.weight_scale)
    return SimulatedLayer(weight, weight_scale, wide, gain, None, codes, frozenset())
