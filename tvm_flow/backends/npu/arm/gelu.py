"""A linear with GELU and requantization in integers alone: CONV2D, RESCALE to 16 bits, TABLE, RESCALE to 8.

    codes(acc * scale + bias -> GELU -> * gain / scale -> round, clip)

is one composite, because its floats have no counterpart in TOSA that rounds as ours: there is no division. Here they
become the integers of `tvm_flow.backends.npu.arm.constants`, and `gelu_codes` is what the device computes, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import ir
from tvm.relax.dpl import is_const, is_op, wildcard

from tvm_flow.backends.npu.arm.constants import (
    AFTER,
    AFTER_SHIFT,
    BEFORE,
    BEFORE_SHIFT,
    BIASED,
    OFFSET,
)
from tvm_flow.backends.npu.arm.limits import shallow
from tvm_flow.backends.npu.arm.region import Region, calls_in
from tvm_flow.backends.npu.arm.tosa import Value
from tvm_flow.backends.npu.vendor import Complaint, tensors_of
from tvm_flow.graph.lifted import dtype_of, op_name, shape_of
from tvm_flow.importer.canonical import GELU_CUBIC, GELU_LINEAR
from tvm_flow.numerics.integer_tables import gelu_table
from tvm_flow.numerics.rescale import Array, looked_up, rescale
from tvm_flow.numerics.rounded import Rounded

ARITHMETIC = "gelu_codes"


def _op(name: str, *args: Any) -> Any:
    return is_op(f"relax.{name}")(*args)


def pattern() -> Any:
    """From the product to the codes, as `tvm_flow.importer.canonical` writes GELU and quantization."""
    acc = _op("matmul", wildcard(), wildcard())
    x = _op("add", _op("multiply", _op("astype", acc), wildcard()), wildcard())
    slope = _op("add", _op("multiply", _op("multiply", x, x), is_const()), is_const())
    exponential = _op("exp", _op("minimum", _op("multiply", x, slope), is_const()))
    gelu = _op("divide", x, _op("add", exponential, is_const()))
    scaled = _op("divide", _op("multiply", gelu, wildcard()), wildcard())
    return _op("astype", _op("clip", _op("round", scaled), wildcard(), wildcard()))


_LITERALS = sorted(float(np.float32(value)) for value in (-GELU_CUBIC, -GELU_LINEAR, 88.0, 1.0))


def is_gelu(calls: Sequence[Any]) -> Complaint | None:
    """The function that the table holds, of int8 codes and vectors along the channels; in any order."""
    read = [arg for call in calls for arg in tensors_of(call)]
    literals = sorted(float(arg.value.numpy()) for arg in read if isinstance(arg, ir.Constant))
    (product,) = (call for call in calls if op_name(call) == "relax.matmul")
    vectors = [shape_of(arg) for call in calls for arg in call.args[1:] if op_name(call) in _BY_CHANNEL]
    n = shape_of(product)[-1]
    known = literals == _LITERALS and all(shape in ((n,), (), shape_of(product)) for shape in vectors)
    if known and all(dtype_of(arg) == "int8" and len(shape_of(arg)) == 2 for arg in product.args):
        return shallow(product)
    return Complaint("GELU by tanh of an int8 linear with scales by channel only", "leave this kernel to the CPU")


_BY_CHANNEL = ("relax.multiply", "relax.add", "relax.divide")


def _operands(calls: Sequence[Any]) -> tuple[tuple[Any, Any], Any, Any, Any, Any]:
    """(x, weights), accumulator's scale, bias, gain and step, of the calls of a composite in their order."""
    product, _, scaled, biased = calls[:4]
    gained, divided = calls[-5:-3]
    return tuple(product.args), scaled.args[1], biased.args[1], gained.args[1], divided.args[1]


def lower(region: Region, composite: Any, args: list[Any]) -> Value:
    """int8 [M, N]; the arguments of ``composite`` are parameters of the region."""
    graph, calls = region.graph, calls_in(composite)
    of = dict(zip(composite.params, args, strict=True))
    pair, *others = _operands(calls)
    source, weights, scale, bias, gain, step = (of[arg] for arg in (*pair, *others))
    (m, k), (n,) = shape_of(source), shape_of(bias)
    x = graph.reshape(region.read(source), (1, 1, m, k))
    sums = graph.conv1x1(x, region.weight(weights), region.made(BIASED, [bias, scale], (n,), "int32", k))
    offset = graph.constant(np.full((1, 1, 1, 1), OFFSET, np.int32))
    plain = graph.elementwise("sub", sums, offset)
    before = [region.made(r, [scale], (n,), t, k) for r, t in ((BEFORE, "int32"), (BEFORE_SHIFT, "int8"))]
    activated = graph.table(graph.rescale(plain, before[0], before[1], "int16"), graph.constant(gelu_table()))
    after = [region.made(r, [gain, step], (n,), t) for r, t in ((AFTER, "int32"), (AFTER_SHIFT, "int8"))]
    region.arithmetic = ARITHMETIC
    return graph.reshape(graph.rescale(activated, after[0], after[1], "int8"), (m, n))


def gelu_codes(inputs: list[Array]) -> Rounded:
    """int8 [M, N] of x [M, K], weights [N, 1, 1, K] and the five constants, in the order of the graph's inputs.

    Raises QuantizeError where the graph would be invalid.
    """
    x, weights, biases, before, before_shift, after, after_shift = inputs
    sums = x.astype(np.int64) @ weights[:, 0, 0].T.astype(np.int64) + biases.astype(np.int64) - OFFSET
    activated = looked_up(rescale(sums.astype(np.int32), before, before_shift, np.int16), gelu_table())
    codes = rescale(activated, after, after_shift, np.int8)
    return Rounded(codes, np.zeros(codes.shape))
