"""What a graph must be before its nodes are imported: legal ONNX, with fixed shapes, in types that kernels have.

onnx's own checker and its strict inference of types and shapes come first, so that whatever they know is refused is
refused in their words. Then what TVM's importer would pass over in silence: it takes nodes of other domains for ONNX's,
and gives a placeholder for the later outputs of most operators.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from tvm_flow.errors import ImportGraphError
from tvm_flow.export.integer_function import DOMAIN
from tvm_flow.graph.names import unquoted

LEAST_OPSET = 13
"""The first whose DequantizeLinear has scales per channel."""
TYPES = frozenset({"FLOAT", "INT8", "UINT8", "INT32", "INT64", "BOOL"})
SEVERAL_OUTPUTS = frozenset({"Split", "LayerNormalization"})
"""Operators whose outputs after the first are imported."""
_SMALL = {TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators that ``model`` uses; 0 when it names none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def describe(node: onnx.NodeProto, opset: int) -> str:
    """Names ``node`` in a message: by its name, or what it writes."""
    name = unquoted(node.name or next((output for output in node.output if output), "?"))
    kind = f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return f"node {name!r} ({kind}, opset {opset})"


def one_line(error: object) -> str:
    """The words of ``error`` without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def require_legal(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with the types and shapes that onnx infers; its external data must have been read.

    Raises ImportGraphError with onnx's reason, or naming the node that this project does not import.
    """
    opset = opset_of(model)
    if opset < LEAST_OPSET:
        raise ImportGraphError(
            f"opset {opset}: expected {LEAST_OPSET} or later; export again, or convert it with onnx.version_converter"
        )
    functions = {(each.domain, each.name) for each in model.functions if each.domain == DOMAIN}
    for node in model.graph.node:
        if (node.domain, node.op_type) not in functions:
            _require_plain(node, opset)
    _require_tensors(model.graph)
    readers = {name: describe(node, opset) for node in reversed(model.graph.node) for name in node.input}
    for tensor in model.graph.initializer:
        reader = f"{readers[tensor.name]}, " if tensor.name in readers else ""
        _require_type(f"{reader}initializer {unquoted(tensor.name)!r}", tensor.data_type, types_of(model))
    if (error := _invalid(model)) is not None:
        raise ImportGraphError(
            f"{_first_invalid(model, opset)}onnx finds it invalid: {one_line(error)}; export it again"
        )
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    _require_types(inferred, opset)
    _require_first_outputs(inferred.graph, opset)
    return inferred


def _invalid(model: onnx.ModelProto) -> Exception | None:
    """What onnx raises of ``model``."""
    try:
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        return error
    return None


def _first_invalid(model: onnx.ModelProto, opset: int) -> str:
    """Names the last node of the shortest part of ``model`` that is invalid too, or its output."""
    low, high = 0, len(model.graph.node) + 1
    while high - low > 1:
        part, middle = onnx.ModelProto(), (low + high) // 2
        part.CopyFrom(model)
        del part.graph.node[middle:]
        del part.graph.output[:]
        part.graph.output.add(name=part.graph.node[-1].output[0])
        low, high = (middle, high) if _fails_alike(part) is None else (low, middle)
    if high <= len(model.graph.node):
        return f"{describe(model.graph.node[high - 1], opset)}: "
    return f"output {unquoted(model.graph.output[0].name)!r}: "


def _fails_alike(part: onnx.ModelProto) -> Exception | None:
    """As `_invalid`, of inference alone: a part has no types for its outputs."""
    try:
        onnx.shape_inference.infer_shapes(part, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        return error
    return None


def _require_plain(node: onnx.NodeProto, opset: int) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise ImportGraphError(
            f"{describe(node, opset)}: expected ONNX's own operators, got one of another domain; export without it"
        )
    if not onnx.defs.has(node.op_type, opset, ""):
        raise ImportGraphError(
            f"{describe(node, opset)}: expected an operator of ONNX, got one that opset {opset} does not have; check "
            "the opset that the graph names"
        )
    if node.op_type == "SpaceToDepth" and any(attribute.name == "mode" for attribute in node.attribute):
        raise ImportGraphError(  # which TVM's importer does not look at
            f"{describe(node, opset)}: expected no mode, got one; write it as Reshape, Transpose, Reshape"
        )
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise ImportGraphError(
            f"{describe(node, opset)}: expected a straight line of operators, got one with graphs inside; export the "
            "branch that is taken"
        )


def _require_tensors(graph: onnx.GraphProto) -> None:
    if not graph.output:
        raise ImportGraphError("graph: expected at least one output, got none; name what is to be computed")
    for side, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            if (kind := value.type.WhichOneof("value") or "tensor_type") != "tensor_type":
                raise ImportGraphError(
                    f"{side} {unquoted(value.name)!r}: expected a tensor, got a value of "
                    f"{kind.removesuffix('_type').replace('_', ' ')} type; export one of tensors alone"
                )


def types_of(model: onnx.ModelProto) -> frozenset[str]:
    """Of tensors inside ``model``: between local functions of integers, which pass them on, there are 16 bits, too."""
    return TYPES | {"INT16"} if any(each.domain == DOMAIN for each in model.functions) else TYPES


def _require_type(what: str, kind: int, types: frozenset[str]) -> None:
    name = TensorProto.DataType.Name(kind)
    if kind != TensorProto.UNDEFINED and name not in types:
        raise ImportGraphError(
            f"{what}: expected float32 values, codes of 8 bits or int32, or int64 shapes, got {name}; quantize to 8 "
            "bits and keep the rest in float32"
        )


def require_range(tensor: onnx.TensorProto) -> None:
    """Small integers may be written as int32; raises ImportGraphError for one that would be cut."""
    if tensor.data_type not in _SMALL or not tensor.int32_data:
        return
    limits = np.iinfo(_SMALL[tensor.data_type])
    if not limits.min <= min(tensor.int32_data) <= max(tensor.int32_data) <= limits.max:
        raise ImportGraphError(
            f"initializer {unquoted(tensor.name)!r}: expected {limits.dtype} values, got {min(tensor.int32_data)} to "
            f"{max(tensor.int32_data)}; export it again"
        )


def _require_types(model: onnx.ModelProto, opset: int) -> None:
    graph, types = model.graph, types_of(model)
    for value in graph.input:
        _require_type(f"input {unquoted(value.name)!r}", value.type.tensor_type.elem_type, types)
        sides = value.type.tensor_type.shape.dim
        if not value.type.tensor_type.HasField("shape") or not all(side.HasField("dim_value") for side in sides):
            shape = [side.dim_value if side.HasField("dim_value") else side.dim_param or "?" for side in sides]
            raise ImportGraphError(
                f"input {unquoted(value.name)!r}: expected a static shape, got {shape}; export with fixed sizes"
            )
    for value in (*graph.input, *graph.value_info, *graph.output):
        if any(side.HasField("dim_value") and side.dim_value == 0 for side in value.type.tensor_type.shape.dim):
            makers = (describe(node, opset) for node in graph.node if value.name in node.output)
            raise ImportGraphError(
                f"{next(makers, 'input')} {unquoted(value.name)!r}: expected tensors with elements, got one without; "
                "leave it out of the graph"
            )
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for output in node.output:
            _require_type(f"{describe(node, opset)}, output {unquoted(output)!r}", kinds.get(output, 0), types)


def _require_first_outputs(graph: onnx.GraphProto, opset: int) -> None:
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node, later in _later_outputs(graph):
        if node.op_type not in SEVERAL_OUTPUTS and later in read:
            raise ImportGraphError(
                f"{describe(node, opset)}: expected its first output alone to be used, got {unquoted(later)!r} read "
                "too; compute that with other operators"
            )


def _later_outputs(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in graph.node:
        for output in list(node.output)[1:]:
            if output:
                yield node, output


def value_info(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    """Type and shape of tensor ``name`` of an inferred ``model``; a bare name where nothing is known."""
    graph = model.graph
    found = next((value for value in (*graph.value_info, *graph.output, *graph.input) if value.name == name), None)
    return found if found is not None else helper.make_empty_tensor_value_info(name)
