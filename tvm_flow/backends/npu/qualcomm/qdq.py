"""A linear of codes as a QDQ graph for HTP, its scales ours: see `tvm_flow.backends.npu.qualcomm` for why so.

    x int8 -> codes * 256, int16 -> Gemm, int8 weights by channel -> y int16 in `HtpLinear.unit`
                                                                  -> GELU -> Mul by the gain -> int8 codes of the step

Every tensor between is int16 with a zero point of 0, and none is left in float, so that the vendor's compiler has
quantized operators alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.numerics.integer_tables import UNIT

OPSET = 21
"""The first whose QuantizeLinear knows int16."""
_IR = 10
UPPER = 256
"""Of a code in the upper byte of 16 bits."""
_MOST = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class HtpLinear:
    """Codes [M, K] of scale ``x_scale`` by weights int8 [K, N] of ``weight_scale`` [N], plus ``bias`` [N].

    With ``step`` the result is codes of it, of GELU times ``gain`` [N]; else int16 in `unit`.
    """

    rows: int
    x_scale: np.float32
    weights: Array
    weight_scale: Array
    bias: Array
    gain: Array | None = None
    step: np.float32 | None = None

    @property
    def unit(self) -> np.float32:
        """Of 16 bits: `UNIT`, or the power of two that a unit of the sums, x_scale weight_scale, does not exceed.

        The device is at most one unit of the sums and half a unit of the result away from the exact one, whatever K is
        (`tvm_flow.backends.npu.qualcomm`). With a unit that is no finer, 3/2 at most, and from the rounded one less
        than 2: 1.
        """
        sums = np.float64(self.x_scale) * np.float64(self.weight_scale.max())
        return np.float32(max(UNIT, 2.0 ** np.ceil(np.log2(sums))))

    @property
    def scales(self) -> dict[str, np.float32]:
        """Of the tensors of the graph that `qdq_model` makes, whose zero points are 0, by their names."""
        found = {"x": self.x_scale, "wide": np.float32(self.x_scale / UPPER)}
        if self.step is None:
            return {**found, "y": self.unit}
        units = dict.fromkeys(("sums", "active"), self.unit)
        return {**found, **units, "gained": np.float32(self.step / UPPER), "y": self.step}


def qdq_model(linear: HtpLinear) -> bytes:
    """The ONNX model of ``linear``, of an input x and an output y; raises BuildError for a bias beyond int32."""
    g, scales = _Graph(), linear.scales
    (k, n), wide = linear.weights.shape, scales["wide"]
    products = wide * linear.weight_scale.astype(np.float32)
    whole = np.rint(linear.bias.astype(np.float64) / products)
    if np.abs(whole).max(initial=0) > _MOST:
        raise BuildError("a linear for HTP: expected biases within int32 of its sums' scale; leave the layer outside")
    x = g.coded(g.dequantized("x", g.constant(linear.x_scale), np.int8), wide, "wide")
    weights = g.dequantized(g.constant(linear.weights.T), g.constant(linear.weight_scale), np.int8, n)
    bias = g.dequantized(g.constant(whole.astype(np.int32)), g.constant(products), np.int32, n)
    sums = g.op("Gemm", [x, weights, bias], transB=1)
    if linear.step is None or linear.gain is None:
        g.quantized(sums, scales["y"], np.int16, "y")
        return g.model([linear.rows, k], [linear.rows, n], TensorProto.INT16)
    active = g.coded(g.op("Gelu", [g.coded(sums, scales["sums"], "sums")]), scales["active"], "active")
    unit = np.float32(np.abs(linear.gain).max() / np.iinfo(np.int16).max)
    codes = np.rint(linear.gain.astype(np.float64) / unit).astype(np.int16)
    gain = g.dequantized(g.constant(codes), g.constant(unit), np.int16)
    gained = g.coded(g.op("Mul", [active, gain]), scales["gained"], "gained")
    g.quantized(gained, scales["y"], np.int8, "y")
    return g.model([linear.rows, k], [linear.rows, n], TensorProto.INT8)


@dataclass
class _Graph:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: Array | np.generic) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def op(self, kind: str, operands: Sequence[str], output: str = "", **attributes: int) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(operands), [output], name=f"{kind}_{output}", **attributes))
        return output

    def dequantized(self, codes: str, scale: str, dtype: type[np.generic], along: int | None = None) -> str:
        """By one scale, or by one for each of ``along`` entries of the first axis."""
        zero = self.constant(np.zeros(() if along is None else along, dtype))
        return self.op("DequantizeLinear", [codes, scale, zero], axis=0)

    def quantized(self, x: str, scale: np.float32, dtype: type[np.generic], name: str) -> str:
        return self.op("QuantizeLinear", [x, self.constant(scale), self.constant(dtype(0))], name)

    def coded(self, x: str, scale: np.float32, name: str) -> str:
        """``x`` as int16 codes called ``name``, and back."""
        return self.dequantized(self.quantized(x, scale, np.int16, name), self.constant(scale), np.int16)

    def model(self, given: Sequence[int], result: Sequence[int], dtype: int) -> bytes:
        x = helper.make_tensor_value_info("x", TensorProto.INT8, given)
        y = helper.make_tensor_value_info("y", dtype, result)
        graph = helper.make_graph(self.nodes, "linear", [x], [y], self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR)
        onnx.checker.check_model(made)
        return bytes(made.SerializeToString(deterministic=True))
