"""A linear of the step graph: QDQ where the recipe quantizes it at this step, plain where it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from tvm_flow.errors import ExportError
from tvm_flow.export.writer import GraphWriter
from tvm_flow.quantize.quantized import Floats, QuantizedLayer


@dataclass(frozen=True)
class StepLinear:
    """The quantized layer ``name`` as it is at one step and branch."""

    name: str
    layer: QuantizedLayer
    step: int
    branch: int


def linear(g: GraphWriter, x: str, at: StepLinear, order: np.ndarray | None = None) -> str:
    """y [M, N] = x [M, K] W^T + bias; ``order`` int [N] permutes the output channels."""
    name, layer = at.name, at.layer
    rows = slice(None) if order is None else order
    if layer.input_gain is not None:
        x = g.op("Mul", [x, g.shared(f"{name}.input_gain", layer.input_gain)])
    if layer.float_steps[at.step]:
        weight = g.shared(f"{name}.weight", _columns(layer.weight_f, rows, name))
    else:
        x = _quantize_dequantize(g, x, at)
        weight = _dequantized_weight(g, name, layer, rows)
    product = g.op("MatMul", [x, weight])
    bias = layer.bias_at(at.step, at.branch)[rows]
    return g.op("Add", [product, (g.shared if layer.bias.ndim == 1 else g.own)(f"{name}.bias", bias)])


def float_linear(g: GraphWriter, x: str, name: str, weight: Floats, bias: Floats) -> str:
    """A linear that no recipe quantizes; weight [N, K]."""
    product = g.op("MatMul", [x, g.shared(f"{name}.weight", np.ascontiguousarray(weight.T))])
    return g.op("Add", [product, g.shared(f"{name}.bias", bias)])


def _quantize_dequantize(g: GraphWriter, x: str, at: StepLinear) -> str:
    layer, when = at.layer, (at.step, at.branch)
    parameters = [g.own(f"{at.name}.scale", layer.scale[when].reshape(()))]
    if layer.zero_point is None:
        codes = g.op("QuantizeLinear", [x, *parameters], output_dtype=TensorProto.INT8)
    else:
        parameters.append(g.own(f"{at.name}.zero_point", layer.zero_point[when].reshape(())))
        codes = g.op("QuantizeLinear", [x, *parameters])
    return g.op("DequantizeLinear", [codes, *parameters])


def _dequantized_weight(g: GraphWriter, name: str, layer: QuantizedLayer, rows: slice | np.ndarray) -> str:
    if layer.weight_scale is None:
        raise ExportError(f"{name}: expected int8 weights for a quantized step, got none; quantize again")
    codes = g.shared(f"{name}.weight_q", _columns(layer.weight_q, rows, name))
    scale = g.shared(f"{name}.weight_scale", layer.weight_scale[rows])
    return g.op("DequantizeLinear", [codes, scale], axis=1)


def _columns(weight: np.ndarray | None, rows: slice | np.ndarray, name: str) -> np.ndarray:
    """[N, K] -> [K, N], output channels in ``rows`` order."""
    if weight is None:
        raise ExportError(f"{name}: expected a weight for this step, got none; quantize again")
    return np.ascontiguousarray(weight[rows].T)
