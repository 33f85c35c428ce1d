"""Nodes are replaced by what the rules of `tvm_flow.importer.composites` write for them."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from tvm_flow.importer.composites import RULES
from tvm_flow.importer.legal import opset_of
from tvm_flow.importer.node_writer import Writer


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
