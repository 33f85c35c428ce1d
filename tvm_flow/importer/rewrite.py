"""Nodes that are written out in others before TVM's importer sees the graph.

    LayerNormalization    with its mean or deviation read, or over several axes: as ONNX defines it

Each rule states the order of float operations, which is the meaning that kernels and reference share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tvm_flow.graph.constants import Array
from tvm_flow.graph.names import made_up
from tvm_flow.importer.legal import opset_of


@dataclass
class Writer:
    """The nodes of the new graph, so far."""

    opset: int
    shapes: dict[str, tuple[int, ...]]
    read: frozenset[str]
    """Names that a node or the graph's outputs read."""
    values: dict[str, Array]
    """Initializers that are known by value."""
    taken: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    node: str = ""
    """Of the original, which messages name."""

    def emit(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A new node's output."""
        output = self._fresh(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], self.node, **attributes))
        return output

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """A new initializer's name."""
        name = self._fresh("constant")
        self.constants[name] = np.asarray(value, kind)
        return name

    def mean(self, x: str, axes: Sequence[int]) -> str:
        """Along ``axes``, which are kept with extent 1."""
        if self.opset < 18:
            return self.emit("ReduceMean", x, axes=list(axes), keepdims=1)
        return self.emit("ReduceMean", x, self.constant(list(axes), np.int64), keepdims=1)

    def _fresh(self, hint: str) -> str:
        name = made_up(f"written.{hint}", self.taken)
        self.taken.add(name)
        return name


def written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, whose types are inferred, with nodes replaced by the rules; itself when none applies."""
    graph = model.graph
    if not any(node.op_type in RULES for node in graph.node):
        return model
    writer = _writer(model)
    for node in graph.node:
        rule = RULES.get(node.op_type)
        writer.node = node.name or node.output[0]
        results = rule(writer, node) if rule else None
        if results is None:
            writer.nodes.append(node)
            continue
        for result, output in zip(results, node.output, strict=False):
            writer.nodes.append(helper.make_node("Identity", [result], [output], writer.node))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(writer.nodes)
    result.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in writer.constants.items())
    return result


def _writer(model: onnx.ModelProto) -> Writer:
    graph = model.graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    shapes = {info.name: tuple(side.dim_value for side in info.type.tensor_type.shape.dim) for info in infos}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    read = frozenset({name for node in graph.node for name in node.input} | {value.name for value in graph.output})
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | shapes.keys()
    return Writer(opset_of(model), shapes, read, values, taken)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Attribute ``name`` of ``node``."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _layer_normalization(writer: Writer, node: onnx.NodeProto) -> list[str] | None:
    x, gain, *rest = node.input
    rank = len(writer.shapes[x])
    axis = attribute(node, "axis", -1) % rank
    if axis == rank - 1 and not any(output in writer.read for output in list(node.output)[1:]):
        return None
    emit, axes = writer.emit, range(axis, rank)
    mean = writer.mean(x, axes)
    centred = emit("Sub", x, mean)
    variance = writer.mean(emit("Mul", centred, centred), axes)
    deviation = emit("Sqrt", emit("Add", variance, writer.constant(attribute(node, "epsilon", 1e-5))))
    inverse = emit("Div", writer.constant(1.0), deviation)
    value = emit("Mul", emit("Mul", centred, inverse), gain)
    return [emit("Add", value, rest[0]) if rest and rest[0] else value, mean, inverse]


RULES: dict[str, Callable[[Writer, onnx.NodeProto], list[str] | None]] = {
    "LayerNormalization": _layer_normalization,
}
"""Per operator what its outputs are called; None for a node that stays as it is."""
