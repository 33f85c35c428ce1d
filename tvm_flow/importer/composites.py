"""How operators are written out in others, before TVM's importer sees the graph.

    LayerNormalization    with its mean or deviation read, or over several axes: as ONNX defines it
    GroupNormalization    the same, over the channels of a group and all places
    Tanh(x)               1 - 2 / (1 + exp(2 x)), by the sigmoid: 1 - 2 sigmoid(-2 x); absolute error 2^-22
    Erf(x)                by Abramowitz and Stegun 7.1.26, whose absolute error is 1.5e-7
    Pow(x, n)             for a constant whole n of 0 to 8: products; for 0.5 a root; for negative n one division more
    Clip(x, a, b)         Min(Max(x, a), b)
    Neg, Reciprocal, Abs  -1 x, 1 / x, Max(x, -1 x)
    Dropout               its input, while not training
    Resize                to nearest, by whole factors: a reshape, an expansion, a reshape
    Where(c, a, b)        for a constant c: a c + b (1 - c), with 0 and 1; what is computed must be finite where hidden

Each rule states the order of float operations, which is the meaning that kernels and reference share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.constants import Array
from tvm_flow.importer.legal import describe
from tvm_flow.importer.node_writer import Writer


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


def _group_normalization(writer: Writer, node: onnx.NodeProto) -> list[str]:
    x, gain, bias = node.input
    batch, channels, *places = writer.shapes[x]
    emit = writer.emit
    grouped = emit("Reshape", x, writer.constant([batch, attribute(node, "num_groups", 1), -1], np.int64))
    mean = writer.mean(grouped, [2])
    centred = emit("Sub", grouped, mean)
    variance = writer.mean(emit("Mul", centred, centred), [2])
    deviation = emit("Sqrt", emit("Add", variance, writer.constant(attribute(node, "epsilon", 1e-5))))
    value = emit("Mul", centred, emit("Div", writer.constant(1.0), deviation))
    value = emit("Reshape", value, writer.constant([batch, channels, *places], np.int64))
    for kind, vector in (("Mul", gain), ("Add", bias)):
        along = writer.constant([1, channels, *[1] * len(places)], np.int64)
        value = emit(kind, value, emit("Reshape", vector, along))
    return [value]


def _tanh(writer: Writer, node: onnx.NodeProto) -> list[str]:
    emit = writer.emit
    share = emit("Sigmoid", emit("Mul", node.input[0], writer.constant(-2.0)))
    return [emit("Sub", writer.constant(1.0), emit("Mul", share, writer.constant(2.0)))]


def _erf(writer: Writer, node: onnx.NodeProto) -> list[str]:
    """sign(x) (1 - t p(t) exp(-x^2)) with t = 1 / (1 + 0.3275911 |x|); sign(x) = 2^100 x, cut to -1 and 1."""
    emit, constant, x = writer.emit, writer.constant, node.input[0]
    size = _absolute(writer, x)
    t = emit("Div", constant(1.0), emit("Add", emit("Mul", size, constant(0.3275911)), constant(1.0)))
    poly = constant(_ERF[0])
    for coefficient in _ERF[1:]:
        poly = emit("Add", emit("Mul", poly, t), constant(coefficient))
    fall = emit("Exp", emit("Mul", emit("Mul", x, x), constant(-1.0)))
    rest = emit("Sub", constant(1.0), emit("Mul", emit("Mul", poly, t), fall))
    sign = emit("Max", emit("Min", emit("Mul", x, constant(2.0**100)), constant(1.0)), constant(-1.0))
    return [emit("Mul", sign, rest)]


_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def _absolute(writer: Writer, x: str) -> str:
    return writer.emit("Max", x, writer.emit("Mul", x, writer.constant(-1.0)))


def _pow(writer: Writer, node: onnx.NodeProto) -> list[str] | None:
    x, exponent = node.input
    if exponent not in writer.values or writer.values[exponent].size != 1:
        return None
    if len(writer.shapes[exponent]) > len(writer.shapes[x]):
        return None
    power = float(writer.values[exponent].item())
    if power == 0.5:
        return [writer.emit("Sqrt", x)]
    if abs(power) not in range(1, 9):
        return None
    value, left, square = "", int(abs(power)), x
    while left:
        if left % 2:
            value = writer.emit("Mul", value, square) if value else square
        left //= 2
        square = writer.emit("Mul", square, square) if left else square
    return [value if power > 0 else writer.emit("Div", writer.constant(1.0), value)]


def _clip(writer: Writer, node: onnx.NodeProto) -> list[str]:
    value = node.input[0]
    for kind, bound in zip(("Max", "Min"), list(node.input)[1:], strict=False):
        value = writer.emit(kind, value, bound) if bound else value
    return [value]


def _where(writer: Writer, node: onnx.NodeProto) -> list[str] | None:
    """Chosen by a constant; a constant operand may hide infinities, as masks do, a computed one may not."""
    condition, a, b = node.input
    if condition not in writer.values:
        return None
    chosen = writer.values[condition].astype(bool)
    return [writer.emit("Add", _where_true(writer, chosen, a), _where_true(writer, ~chosen, b))]


def _where_true(writer: Writer, chosen: Array, x: str) -> str:
    """``x`` where it is ``chosen``, and 0."""
    if x in writer.values:
        return writer.constant(np.where(chosen, writer.values[x], np.float32(0)))
    return writer.emit("Mul", x, writer.constant(chosen))


def _dropout(writer: Writer, node: onnx.NodeProto) -> list[str]:
    """The input itself; raises ImportGraphError for one that is to drop something."""
    training = node.input[2] if len(node.input) > 2 else ""
    if training and (training not in writer.values or writer.values[training].any()):
        raise ImportGraphError(
            f"{describe(node, writer.opset)}: expected inference, got training_mode; export with training off"
        )
    return [node.input[0]]


def _expand(writer: Writer, node: onnx.NodeProto) -> list[str] | None:
    x, shape = node.input
    if shape not in writer.values:
        return None
    return [writer.expanded(x, np.broadcast_shapes(writer.shapes[x], tuple(int(e) for e in writer.values[shape])))]


def _resize(writer: Writer, node: onnx.NodeProto) -> list[str] | None:
    """Every element repeated; other ways to resize are left to be refused."""
    x, output = node.input[0], node.output[0]
    before, after = writer.shapes[x], writer.shapes.get(output, ())
    way = (attribute(node, "coordinate_transformation_mode", b"half_pixel"), attribute(node, "nearest_mode", b""))
    plain = way == (b"asymmetric", b"floor") or (way[0] == b"half_pixel" and way[1] not in (b"floor", b"ceil"))
    if attribute(node, "mode", b"nearest") != b"nearest" or not plain or len(after) != len(before):
        return None
    if any(extent % least for extent, least in zip(after, before, strict=True)):
        return None
    times = [extent // least for extent, least in zip(after, before, strict=True)]
    apart = [side for extent in before for side in (extent, 1)]
    repeated = [side for extent, count in zip(before, times, strict=True) for side in (extent, count)]
    value = writer.expanded(writer.emit("Reshape", x, writer.constant(apart, np.int64)), repeated)
    return [writer.emit("Reshape", value, writer.constant(after, np.int64))]


RULES: dict[str, Callable[[Writer, onnx.NodeProto], list[str] | None]] = {
    "LayerNormalization": _layer_normalization,
    "GroupNormalization": _group_normalization,
    "Tanh": _tanh,
    "Erf": _erf,
    "Pow": _pow,
    "Clip": _clip,
    "Abs": lambda writer, node: [_absolute(writer, node.input[0])],
    "Neg": lambda writer, node: [writer.emit("Mul", node.input[0], writer.constant(-1.0))],
    "Reciprocal": lambda writer, node: [writer.emit("Div", writer.constant(1.0), node.input[0])],
    "Where": _where,
    "Expand": _expand,
    "Dropout": _dropout,
    "Resize": _resize,
}
"""Per operator what its outputs are called; None for a node that stays as it is."""
