"""Ethos-U: what of a kernel is integers alone, constants baked in: a linear and GELU with its codes, or a whole block.

    x int8 -> CONV2D 1x1 + RESCALE -> int16                       the linear, its scale and bias by channel
                                   -> TABLE + RESCALE -> int8     with GELU and codes
                                   -> CONV2D 1x1 + RESCALE        and the linear that reads them: a whole MLP

A kernel that is a computation by TOSA's integer operators (recipes ``between: integer``) is a region as it stands.
Ethos-U has no floats: what another kernel does after its linear (a gate, a residual) is outside this region, whose
result it would take in 16 bits. Everything is a constant here, because vela takes nothing else, so a command stream is
made for every set of scales: it serves one step, or a cluster of steps that share them.

What 16 bits cost, in vela 5.2's cycles for 128x96x384 (2026-11-26):

|                             | U55-256 | U65-512 | U85-512 |
|-----------------------------|---------|---------|---------|
| to int8                     |  44 656 |  44 680 |  43 028 |
| to int16                    |  44 656 |  44 680 |  43 028 |
| to int8, TABLE of int8      |  53 872 |  47 749 |  43 028 |
| to int16, TABLE, to int8    | 938 432 | 338 405 |  71 236 |

A result of 16 bits is free everywhere; TABLE of 16 bits pays on U85 alone. On U55 and U65 GELU would be better off with
8 bits before it, which costs codes: that is not written yet, and their figures of `scripts/bench npu` suffer by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvm_flow.backends.npu.arm.constants import CONV1X1
from tvm_flow.backends.npu.arm.integer_graph import IntegerGraph
from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.backends.npu.linears import Linear, Values, linears_of, outside
from tvm_flow.graph.integers import program_of
from tvm_flow.graph.lifted import bindings_of, op_name, shape_of
from tvm_flow.numerics.integer_tables import UNIT, gelu_table
from tvm_flow.numerics.rescale import Array, multiplier_and_shift

_MORE_BITS = 1 << 7
"""Of TABLE's results."""


def ethos_text(function: Any, constants: Mapping[int, Array]) -> str:
    """The region of the kernel ``function`` as MLIR, ``constants`` its parameters' values by position.

    A kernel of two linears, as `tvm_flow.backends.regions` joins them, is one region, the codes between them inside.
    Raises BuildError for a kernel that neither starts with a linear of codes nor is one of integers.
    """
    if (call := _integers(function)) is not None:
        return _integer_text(function, call, constants)
    linears = linears_of(function)
    if not linears:
        raise outside(function)
    values, graph, (m, k) = Values(function, constants), TosaGraph(), shape_of(linears[0].x)
    result = graph.input((1, 1, m, k), "int8")
    for each in linears:
        result = _linear(graph, result, each, values)
        if each.step is not None:
            step = values.of(each.step) / values.of(each.gain)
            active = graph.table(result, graph.constant(gelu_table()))
            result = graph.rescale(active, *_scale(graph, UNIT / _MORE_BITS / step), "int8")
    return graph.text(result)


def is_region(function: Any) -> bool:
    """Whether `ethos_text` takes the kernel ``function``, its constants given."""
    return _integers(function) is not None or bool(linears_of(function))


def _integers(function: Any) -> Any:
    """The call of a kernel that is a computation by TOSA's integer operators; None for others."""
    calls = [value for _, value in bindings_of(function) if op_name(value)]
    return calls[0] if len(calls) == 1 and program_of(calls[0]) is not None else None


def _integer_text(function: Any, call: Any, constants: Mapping[int, Array]) -> str:
    program, ops, values = program_of(call), IntegerGraph(baked=True), Values(function, constants)
    assert program is not None
    inputs = []
    for arg, spec in zip(call.args, program.inputs, strict=True):
        array, shape = constants.get(values.place(arg)), spec.shape
        inputs.append(ops.graph.input(shape, spec.dtype) if array is None else ops.given(array.reshape(shape)))
    return ops.graph.text(program.run(ops, inputs))


def _linear(graph: TosaGraph, x: Value, linear: Linear, values: Values) -> Value:
    """int8 [1, 1, M, K] -> int16 [1, 1, M, N] in `UNIT`."""
    weights, scale, bias = (values.of(each) for each in (linear.weights, linear.scale, linear.bias))
    whole = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    wide = graph.constant(np.broadcast_to(whole, weights.shape[1:]).astype(np.int32))
    sums = graph.conv1x1(x, graph.constant(CONV1X1.pack(weights)), wide)
    return graph.rescale(sums, *_scale(graph, scale / UNIT), "int16")


def _scale(graph: TosaGraph, scale: Array) -> tuple[Any, Any]:
    multiplier, shift = multiplier_and_shift(scale.astype(np.float64).reshape(-1))
    return graph.constant(multiplier), graph.constant(shift)
