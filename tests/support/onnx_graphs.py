"""Small ONNX graphs, written out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
FLOAT, INT8, UINT8, INT32 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    constants: Mapping[str, Array] | None = None,
    types: Mapping[str, int] | None = None,
    opset: int = 21,
) -> ModelProto:
    """A checked model; tensors are float32 unless ``types`` says otherwise."""
    types = types or {}
    sides = [
        [helper.make_tensor_value_info(n, types.get(n, FLOAT), list(s)) for n, s in side.items()]
        for side in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", *sides, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    """``inputs`` and ``output`` are names separated by blanks."""
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def qdq(x: str, output: str, parameters: str = "s z", **attributes: Any) -> list[NodeProto]:
    """QuantizeLinear then DequantizeLinear."""
    return [
        node("QuantizeLinear", f"{x} {parameters}", f"{output}_q", **attributes),
        node("DequantizeLinear", f"{output}_q {parameters}", output, **attributes),
    ]


def float_tolerance(x: Array, w: Array, scale: float = 1.0) -> Array:
    """What two single-precision evaluations of x @ w may differ by: both within gamma of the exact sum.

    gamma covers K products and sums, the two dequantized operands, the product of scales and a bias (Higham, 3.1).
    """
    depth = w.shape[0] + 6
    return np.asarray(
        2 * scale * depth * 2.0**-24 * (np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64)) + 1.0)
    )


def random_nodes(names: Sequence[str], steps: Sequence[tuple[str, int, int]]) -> tuple[list[NodeProto], str]:
    """Nodes that start with the inputs ``names``, of steps (an operator, two values by number), and the last output."""
    known, nodes = list(names), list[NodeProto]()
    for i, (kind, first, second) in enumerate(steps):
        a, b = known[first % len(known)], known[second % len(known)]
        attributes = {"perm": [1, 0]} if kind == "Transpose" else {}
        body = node("Mul", f"{a} {a}", f"m{i}") if kind == "Square" else node(kind, a, f"m{i}", **attributes)
        nodes += [body, node("Add", f"m{i} {b}", f"n{i}")]
        known += [f"m{i}", f"n{i}"]
    return nodes, known[-1]
