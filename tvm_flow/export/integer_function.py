"""A computation by TOSA's integer operators as a local function of an ONNX model, and back.

The function is of the domain `DOMAIN`, its nodes of `TOSA`, under the names of TOSA's specification: RESCALE, TABLE,
CLZ and so on. What is an attribute in `tvm_flow.numerics.tosa_operators` is one here; a zero point is one, too.
Tables and literals are Constant nodes; every other constant is an input of the function, so that graphs of all steps
have the same functions. Shapes and types of all values are noted, as onnx knows nothing of these operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, helper, numpy_helper

from tvm_flow.errors import ExportError
from tvm_flow.numerics.integer_program import CONSTANT, Instruction, IntegerProgram, Spec

DOMAIN, TOSA = "tvm_flow", "tosa"
VERSION = 1
_NAMES = {
    **{"conv1x1": "CONV2D", "matmul": "MATMUL", "rescale": "RESCALE", "table": "TABLE", "multiply": "MUL"},
    **{"clz": "CLZ", "magnitude": "ABS", "cast": "CAST", "reshape": "RESHAPE", "transpose": "TRANSPOSE"},
    **{"slice": "SLICE", "concat": "CONCAT"},
}
"""TOSA's, by method; the others take their operator's name as an option."""
_SEVERAL = {
    **dict.fromkeys(("ADD", "SUB", "MAXIMUM", "MINIMUM"), "elementwise"),
    **dict.fromkeys(("LOGICAL_LEFT_SHIFT", "ARITHMETIC_RIGHT_SHIFT"), "shift"),
    **dict.fromkeys(("REDUCE_SUM", "REDUCE_MAX"), "reduce"),
}
_METHODS = _SEVERAL | {name: method for method, name in _NAMES.items()}
_TRUTHS = ("rounded",)


def function_of(program: IntegerProgram, name: str, opset: int) -> FunctionProto:
    """``program`` as the function ``name`` of a model with ``opset``."""
    count = len(program.inputs)
    names = [f"a{i}" if i < count else f"v{i - count}" for i in range(len(program.specs))]
    nodes = [
        _node(each, [names[operand] for operand in each.operands], names[count + place])
        for place, each in enumerate(program.instructions)
    ]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(TOSA, VERSION)]
    function = helper.make_function(DOMAIN, name, names[:count], [names[program.output]], nodes, opsets)
    function.value_info.extend(value_info(each, spec) for each, spec in zip(names, program.specs, strict=True))
    return function


def value_info(name: str, spec: Spec) -> onnx.ValueInfoProto:
    """Of the tensor ``name``."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape))


def _node(each: Instruction, operands: list[str], output: str) -> NodeProto:
    if each.array is not None:
        return helper.make_node("Constant", [], [output], value=numpy_helper.from_array(each.array, output))
    options = dict(each.options)
    kind = _NAMES.get(each.method) or str(options.pop("operator")).upper()
    return helper.make_node(kind, operands, [output], output, domain=TOSA, **options)


def program_of(function: FunctionProto) -> IntegerProgram:
    """The program that ``function`` is; raises ExportError for one that `function_of` does not write."""
    try:
        infos = {info.name: _spec(info) for info in function.value_info}
        numbers = {name: number for number, name in enumerate(_values(function))}
        rows = [_instruction(node, numbers, infos) for node in function.node]
        (output,) = function.output
        return IntegerProgram(tuple(infos[name] for name in function.input), tuple(rows), numbers[output])
    except (KeyError, ValueError, TypeError) as error:
        raise ExportError(
            f"function {function.domain}::{function.name}: expected one of TOSA's integer operators with all shapes "
            f"noted, got {type(error).__name__}: {error}; export it again"
        ) from error


def _values(function: FunctionProto) -> Iterator[str]:
    yield from function.input
    for node in function.node:
        yield from node.output


def _spec(info: onnx.ValueInfoProto) -> Spec:
    kind = info.type.tensor_type
    return Spec(
        tuple(int(side.dim_value) for side in kind.shape.dim),
        str(helper.tensor_dtype_to_np_dtype(kind.elem_type)),
    )


def _instruction(node: NodeProto, numbers: dict[str, int], infos: dict[str, Spec]) -> Instruction:
    result = infos[node.output[0]]
    if node.op_type == "Constant" and node.domain == "":
        return Instruction(CONSTANT, (), (), result, numpy_helper.to_array(node.attribute[0].t))
    if node.domain != TOSA:
        raise ValueError(f"node {node.name!r} of domain {node.domain!r}")
    method = _METHODS[node.op_type]
    options = {each.name: _option(each) for each in node.attribute}
    if method not in _NAMES:
        options["operator"] = node.op_type.lower()
    order = _ORDER[method]
    operands = tuple(numbers[name] for name in node.input)
    return Instruction(method, operands, tuple((key, options[key]) for key in order), result)


_ORDER: dict[str, tuple[str, ...]] = {
    **{"conv1x1": (), "table": (), "clz": (), "magnitude": (), "matmul": ("zero",), "rescale": ("dtype", "zero")},
    **{"multiply": ("shift",), "cast": ("dtype",), "reshape": ("shape",), "transpose": ("axes",), "concat": ("axis",)},
    **{"slice": ("axis", "start", "stop"), "elementwise": ("operator",), "shift": ("operator", "rounded")},
    "reduce": ("operator", "axis"),
}
"""Options of a method, as `tvm_flow.numerics.integer_program` writes them."""


def _option(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if attribute.name in _TRUTHS:
        return bool(value)
    return value.decode() if isinstance(value, bytes) else list(value) if attribute.ints else value
