"""Where smoothing factors and time go, so that a step graph multiplies by neither.

A gain is 1 / s of one layer. That layer's weight columns are always multiplied by s; its input is multiplied by the
gain, and where that happens depends on the layer:

    attn.qkv               in the modulated LayerNorm of the step: the folds <block>.msa_*
    mlp.fc1                likewise: the folds <block>.mlp_*
    attn.proj              in the V rows of attn.qkv: attention mixes tokens, never channels
    attn_temp.qkv          (STDiT) inside the quantize, as ``input_gain``: the input is the raw residual
    attn_temp.proj         in the V rows of attn_temp.qkv
    cross_attn.proj        in the V rows of cross_attn.kv_linear, for the same reason
    cross_attn.q_linear    inside the quantize: the input is the raw residual
    cross_attn.kv_linear   inside the quantize: the input is the caption, which all blocks share
    mlp.fc2                inside the quantize: the input is what a GELU gave
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tvm_flow.calibrate import block_names
from tvm_flow.model import AnyModel
from tvm_flow.quantize.quantized import Fold

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

INPUT_GAIN_KINDS = ("attn_temp.qkv", "cross_attn.q_linear", "cross_attn.kv_linear", "mlp.fc2")
TIMELESS_KINDS = ("cross_attn.kv_linear",)
"""Their input is the caption alone: one scale for all steps of a branch, so that a prompt's K and V are made once."""
VALUE_OF = {"attn.qkv": "attn.proj", "attn_temp.qkv": "attn_temp.proj", "cross_attn.kv_linear": "cross_attn.proj"}
_CHUNKS = ("msa_shift", "msa_scale", "msa_gate", "mlp_shift", "mlp_scale", "mlp_gate")
MODULATES = {"msa": "attn.qkv", "mlp": "mlp.fc1"}


@dataclass(frozen=True, eq=False)
class FoldedLinear:
    """A linear after folding, in float64: ``weight`` [N, K], ``bias`` [N]."""

    weight: Doubles
    bias: Doubles


def fold_linear(name: str, linear: nn.Linear, gains: Mapping[str, Floats]) -> FoldedLinear:
    """``linear`` with columns divided by its own gain, and V rows multiplied by the gain of their proj.

    float64, from the float32 gains that the model will really multiply by, so that nothing is lost but the
    rounding of the weights themselves. ``gains`` maps layer names to float32 [K]; layers without one are not
    smoothed.
    """
    weight, bias = _double(linear.weight), _double(linear.bias)
    if name in gains:
        weight = weight / gains[name].astype(np.float64)
    block, kind = split(name)
    partner = f"{block}.{VALUE_OF.get(kind)}"
    if partner in gains:
        gain = gains[partner].astype(np.float64)
        rows = slice(-len(gain), None)  # V comes last in qkv and in kv
        weight, bias = weight.copy(), bias.copy()
        weight[rows] *= gain[:, None]
        bias[rows] *= gain
    return FoldedLinear(weight, bias)


def split(name: str) -> tuple[str, str]:
    """A layer name as (block, kind): ``spatial_blocks.0.attn.qkv`` is ("spatial_blocks.0", "attn.qkv")."""
    parts = name.split(".")
    return ".".join(parts[:2]), ".".join(parts[2:])


def modulation_folds(model: AnyModel, gains: Mapping[str, Floats]) -> dict[str, Fold]:
    """The folds of all blocks and of the final layer; gates and the final layer have no gain."""
    hidden, folds = model.config.hidden, {}
    for block in block_names(model.config):
        table = _table(model.get_submodule(block))
        for k, chunk in enumerate(_CHUNKS):
            place, role = chunk.split("_")
            gain = None if role == "gate" else gains.get(f"{block}.{MODULATES[place]}")
            folds[f"{block}.{chunk}"] = Fold(k * hidden, _base(table[k], role), gain)
    table = _table(model.final_layer)
    for row, role in enumerate(("shift", "scale")):
        folds[f"final.{role}"] = Fold(6 * hidden, _base(table[row], role), None)
    return folds


def weight_sqnr_db(weight: Floats, codes: NDArray[np.int8], scale: Floats) -> float:
    """Signal to quantization noise in dB of ``codes`` [N, K] times ``scale`` [N] for ``weight``."""
    noise = np.square(weight - codes * scale[:, None], dtype=np.float64).sum()
    signal = np.square(weight, dtype=np.float64).sum()
    return float(10 * np.log10(max(signal, 1e-300) / max(noise, 1e-300)))


def _base(row: Floats, role: str) -> Floats:
    return np.float32(1) + row if role == "scale" else row


def _table(module: nn.Module) -> Floats:
    table = module.scale_shift_table
    assert isinstance(table, Tensor)
    return table.detach().float().numpy().copy()


def _double(parameter: Tensor) -> Doubles:
    values: Doubles = parameter.detach().double().numpy()
    return values
