"""Attention whose products are of codes, as a QDQ graph: what `tvm_flow.quantize.simulated_attention` simulates.

    s = DQ(Q(q)) DQ(Q(k)) + mask           int8, one scale each; q has 1 / sqrt(d) in it, and so has its scale
    p = DQ(Q(255 exp(s - max s)))          uint8 with the scale 1: p is a whole number, 255 where s is largest
    p DQ(Q(v)) / sum p                     the sum of whole numbers below 2^24 is exact in float32

So the import finds two products of integers, and a sum without roundings.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tvm_flow.export.step import StepWriter
from tvm_flow.quantize.quantized import Floats, QuantizedModel
from tvm_flow.quantize.simulated_attention import GREATEST_WEIGHT

OPERANDS = ("q_scale", "k_scale", "v_scale")
"""Initializers of a step graph, after an attention's name."""


def operand_scale(model: QuantizedModel, name: str, operand: str, step: int, branch: int) -> Floats:
    """Of the codes of an ``operand`` of attention ``name``, scalar."""
    scale = model.reach[name][step, branch, OPERANDS.index(operand)]
    width = np.float32(model.config.head_dim**-0.5) if operand == "q_scale" else np.float32(1)
    return np.asarray(scale * width, np.float32)


def code_attend(w: StepWriter, name: str, operands: tuple[str, str, str], mask: str | None = None) -> str:
    """Attention ``name`` of q, k transposed and v, ``operands``; q is scaled already."""
    g = w.g
    q, k_transposed, v = (_codes(w, x, f"{name}.{part}") for x, part in zip(operands, OPERANDS, strict=True))
    scores = g.op("MatMul", [q, k_transposed])
    if mask is not None:
        scores = g.op("Add", [scores, mask])
    top = g.op("ReduceMax", [scores, g.integers(-1)], keepdims=1)
    power = g.op("Exp", [g.op("Sub", [scores, top])])
    wide = g.op("Mul", [power, g.shared("greatest_weight", np.array(GREATEST_WEIGHT, np.float32))])
    parameters = [g.shared("weight_scale_one", np.array(1, np.float32)), g.shared("weight_zero", np.array(0, np.uint8))]
    weights = g.op("DequantizeLinear", [g.op("QuantizeLinear", [wide, *parameters]), *parameters])
    total = g.op("ReduceSum", [weights, g.integers(-1)], keepdims=1)
    return g.op("Div", [g.op("MatMul", [weights, v]), total])


def _codes(w: StepWriter, x: str, name: str) -> str:
    attention, _, operand = name.rpartition(".")
    scale = w.g.own(name, operand_scale(w.model, attention, operand, w.step, w.branch))
    codes = w.g.op("QuantizeLinear", [x, scale], output_dtype=TensorProto.INT8)
    return w.g.op("DequantizeLinear", [codes, scale])
