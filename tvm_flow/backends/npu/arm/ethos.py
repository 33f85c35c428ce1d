"""Ethos-U: the linear that a kernel starts with, and GELU with its codes, in integers alone, constants baked in.

    x int8 -> CONV2D 1x1 + RESCALE -> int16                       the linear, its scale and bias by channel
                                   -> TABLE + RESCALE -> int8     with GELU and codes
                                   -> CONV2D 1x1 + RESCALE        and the linear that reads them: a whole MLP

Ethos-U has no floats: what a kernel does after its linear (a gate, a residual) is outside this region, whose result it
would take in 16 bits. Everything is a constant here, because vela takes nothing else, so a command stream is made for
every set of scales: it serves one step, or a cluster of steps that share them.

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

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tvm_flow.backends.npu.arm.constants import CONV1X1
from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of
from tvm_flow.numerics.integer_tables import UNIT, gelu_table
from tvm_flow.numerics.rescale import Array, multiplier_and_shift

_LINEAR = ["relax.matmul", "relax.astype", "relax.multiply", "relax.add"]
_MORE_BITS = 1 << 7
"""Of TABLE's results."""


def ethos_text(function: Any, constants: Mapping[int, Array]) -> str:
    """The region of the kernel ``function`` as MLIR, ``constants`` its parameters' values by position.

    A kernel of two linears, as `tvm_flow.backends.regions` joins them, is one region, the codes between them inside.
    Raises BuildError for a kernel that does not start with a linear of codes.
    """
    calls = [value for _, value in bindings_of(function) if op_name(value)]
    if [op_name(call) for call in calls[:4]] != _LINEAR or dtype_of(calls[0].args[0]) != "int8":
        raise BuildError(f"kernel of {[op_name(call) for call in calls]}: expected a linear of codes; leave it outside")
    values = {param: constants.get(position) for position, param in enumerate(function.params)}
    graph, (m, k) = TosaGraph(), shape_of(calls[0].args[0])
    starts = [position for position, call in enumerate(calls) if op_name(call) == _LINEAR[0]]
    result = graph.input((1, 1, m, k), "int8")
    for start, end in pairwise((*starts, len(calls))):
        result = _linear(graph, result, calls[start : start + 4], values)
        if dtype_of(calls[end - 1]) == "int8":
            gained, divided = calls[end - 5 : end - 3]
            step = _constant(values, divided.args[1]) / _constant(values, gained.args[1])
            active = graph.table(result, graph.constant(gelu_table()))
            result = graph.rescale(active, *_scale(graph, UNIT / _MORE_BITS / step), "int8")
    return graph.text(result)


def _linear(graph: TosaGraph, x: Value, calls: Sequence[Any], values: Mapping[Any, Array | None]) -> Value:
    """int8 [1, 1, M, K] -> int16 [1, 1, M, N] in `UNIT`, by the constants of a linear's ``calls``."""
    product, _, scaled, biased = calls
    weights, scale, bias = (_constant(values, call.args[1]) for call in (product, scaled, biased))
    whole = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    wide = graph.constant(np.broadcast_to(whole, weights.shape[1:]).astype(np.int32))
    sums = graph.conv1x1(x, graph.constant(CONV1X1.pack(weights)), wide)
    return graph.rescale(sums, *_scale(graph, scale / UNIT), "int16")


def _scale(graph: TosaGraph, scale: Array) -> tuple[Any, Any]:
    multiplier, shift = multiplier_and_shift(scale.astype(np.float64).reshape(-1))
    return graph.constant(multiplier), graph.constant(shift)


def _constant(values: Mapping[Any, Array | None], arg: Any) -> Array:
    found = values.get(arg)
    if found is None:
        raise BuildError(f"{arg}: expected a constant, which a command stream holds, got a tensor; leave it outside")
    return found
