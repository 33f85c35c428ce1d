"""Arm as a vendor: what becomes which TOSA operator, and within which limits.

Floats are a VGF's: multiplications and additions round once, as IEEE has it, so that kernels which end in them are
compared with the project's own reference. Divisions, roots and exponentials are not here: TOSA gives reciprocals and
functions of a few units' error, from which codes may differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm.relax.dpl import is_op, wildcard

from tvm_flow.backends.npu.arm import gelu
from tvm_flow.backends.npu.arm.constants import CONV1X1
from tvm_flow.backends.npu.arm.limits import any_of, matrices, shallow, types, within_level
from tvm_flow.backends.npu.arm.region import Region, lower_region
from tvm_flow.backends.npu.arm.tosa import Value
from tvm_flow.backends.npu.vendor import Complaint, Lower, Operator, Vendor
from tvm_flow.graph.lifted import dtype_of, shape_of


def _product(region: Region, composite: Any, args: list[Any]) -> Value:
    """int8 codes by constant weights as CONV2D 1x1, floats as MATMUL: [M, K] and [K, N]."""
    graph, (m, k) = region.graph, shape_of(composite.params[0])
    n = shape_of(composite.params[1])[1]
    x = region.read(args[0])
    if dtype_of(composite.params[0]) == "int8":
        no_bias = graph.constant(np.zeros(n, np.int32))
        sums = graph.conv1x1(graph.reshape(x, (1, 1, m, k)), region.weight(args[1]), no_bias)
    else:
        sums = graph.matmul(graph.reshape(x, (1, m, k)), graph.reshape(region.read(args[1]), (1, k, n)))
    return graph.reshape(sums, (m, n))


def _cast(region: Region, composite: Any, args: list[Any]) -> Value:
    return region.graph.cast(region.read(args[0]), dtype_of(composite.body.body))


def _elementwise(operator: str) -> Lower:
    def lower(region: Region, composite: Any, args: list[Any]) -> Value:
        """Operands in the order of the call, of which one may be a literal and no parameter."""
        of = dict(zip(composite.params, args, strict=True))
        call = composite.body.blocks[0].bindings[0].value
        a, b = (region.read(of.get(arg, arg)) for arg in call.args)
        return region.graph.elementwise(operator, *region.alike(a, b))

    return lower


_FLOATS = types("float32", "float32", result="float32")
_SUMS = types("int32", "int32", result="int32")


def _binary(name: str, operator: str) -> Operator:
    limits = (any_of(_FLOATS, _SUMS) if operator != "mul" else _FLOATS, within_level)
    return Operator(is_op(f"relax.{name}")(wildcard(), wildcard()), limits, _elementwise(operator))


OPERATORS: dict[str, Operator] = {
    "product": Operator(
        is_op("relax.matmul")(wildcard(), wildcard()),
        (any_of(types("int8", "int8", result="int32"), _FLOATS), matrices, shallow, within_level),
        _product,
    ),
    "cast": Operator(
        is_op("relax.astype")(wildcard()),
        (any_of(types("int32", result="float32"), types("int8", result="float32")), within_level),
        _cast,
    ),
    "add": _binary("add", "add"),
    "subtract": _binary("subtract", "sub"),
    "multiply": _binary("multiply", "mul"),
    "gelu_codes": Operator(gelu.pattern(), (within_level,), gelu.lower, gelu.is_gelu),
}

_CPU = "leave the kernel to the CPU, or write it in integers"
_INEXACT = Complaint("TOSA's is a function of a few units' error, from which codes may differ", _CPU)
MISSING = {
    "relax.divide": Complaint("TOSA has no division that rounds once", _CPU),
    **dict.fromkeys(("relax.exp", "relax.sqrt"), _INEXACT),
    "relax.round": Complaint("TOSA rounds in casts and RESCALE only", _CPU),
}

ARM = Vendor(
    name="npu_arm",
    operators=OPERATORS,
    lower_region=lambda function: lower_region(OPERATORS, "npu_arm", function),
    arithmetic={gelu.ARITHMETIC: gelu.gelu_codes},
    missing=MISSING,
    weights=CONV1X1,
    language="mlir",
)
