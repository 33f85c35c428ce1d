"""QDQ graphs become integer arithmetic.

With x = sx (qx - zx) and w[:, n] = sw[n] (qw - zw)[:, n], a QDQ linear is computed as

    acc[m, n] = sum_k qx[m, k] qw[k, n]  - zw[n] sum_k qx[m, k]  + c[n]        exact, int32
    c[n]      = zx (K zw[n] - sum_k qw[k, n]) + bias_q[n]                      a constant
    y[m, n]   = float32(acc[m, n]) * (sx sw[n])  (+ bias[n] when it is float)

so that no float copy of a weight exists. Terms of a zero zero point are left out. The pass is lazy: a dequantize is
emitted only where a float operator reads it, and what stays in float although it was quantized is named with the
reason. Outputs of the graph have the types that the ONNX graph gives them, codes included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tvm import ir, relax, tirx
from tvm.relax import op as R

from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.lifted import (
    Builder,
    LiftedGraph,
    bindings_of,
    call_with,
    dtype_of,
    op_name,
    shape_of,
    tensor_var,
)
from tvm_flow.importer.product import bias_add, linear
from tvm_flow.importer.qdq import MOVES, dequantized, emit_dequantize, moved, quantize
from tvm_flow.importer.scope import Accumulator, Codes, Scope, Unsigned

_LIFTED = ("float32", "int8", "int32")


Note = Callable[[Any, Any, tuple[str, ...]], object]
"""Is told of each variable of the old graph, what it stands for in the new one, and why that was left in float."""


def to_integer(graph: LiftedGraph, note: Note | None = None) -> LiftedGraph:
    """Rewrite every quantize, dequantize and quantized linear of ``graph``; see the module's formulas.

    Raises ImportGraphError when a scale or zero point is not a constant, or codes are not of 8 bits.
    """
    main = graph.module["main"]
    count = len(graph.inputs)
    inputs = [tensor_var(p.name, shape_of(p), dtype_of(p)) for p in main.params[:count]]
    scope = Scope(graph, Builder(inputs), dict(zip(main.params[:count], inputs, strict=True)))
    block = scope.builder.block
    with block.function("main"):
        with block.dataflow():
            for var, value in bindings_of(main):
                before = len(scope.left)
                scope.env[var] = _rewrite(scope, var, value)
                if note is not None:
                    note(var, scope.env[var], tuple(scope.left[before:]))
            output = block.emit_output(_plain(scope, main.body.body))
        block.emit_func_output(output, [*inputs, *scope.builder.parameters.values()])
    left = (*graph.left_in_float, *scope.left)
    return replace(
        graph,
        module=block.get(),
        constants=scope.builder.constants,
        left_in_float=left,
        decisive=graph.decisive | scope.decisive,
        scales=graph.scales | scope.scales,
    )


def _rewrite(scope: Scope, var: Any, value: Any) -> Any:
    """What ``var`` stands for from now on: an expression, `Codes`, an `Accumulator`, or `Unsigned`."""
    if isinstance(value, relax.Var):
        return scope.resolve(value)
    if isinstance(value, relax.Tuple):
        return _plain(scope, value)
    if isinstance(value, ir.Constant):
        return value
    name = op_name(value)
    if name == "relax.quantize":
        return quantize(scope, value, _plain(scope, value.args[0]))
    if name == "relax.dequantize":
        return dequantized(scope, value)
    if name in MOVES and (codes := moved(scope, value)) is not None:
        return codes
    if name == "relax.matmul" and (product := linear(scope, var, value)) is not None:
        return product
    if name == "relax.add" and (total := bias_add(scope, value)) is not None:
        return total
    if name == "relax.split":
        return _pieces(scope, value)
    return _float_operator(scope, var, value)


def _float_operator(scope: Scope, var: Any, value: Any) -> Any:
    if isinstance(value, relax.TupleGetItem):
        return scope.resolve(value.tuple_value).fields[int(value.index)]
    if op_name(value) in ("", "relax.call_tir"):
        raise ImportGraphError(f"{var.name}: expected a call of an operator, got {value}; use other operators")
    for arg in value.args:
        weight = scope.resolve(arg)
        if isinstance(weight, Codes) and scope.is_constant(weight.q) and len(shape_of(weight.q)) > 1:
            scope.left.append(f"weight {weight.q.name}: read by float operator {op_name(value)} of {var.name}")
    return scope.builder.emit(call_with(value, [_plain(scope, a) for a in value.args]))


def _plain(scope: Scope, expr: Any) -> Any:
    """``expr`` as an ordinary tensor, written out once when it is still `Codes` or the like."""
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([_plain(scope, field) for field in expr.fields])
    value = scope.resolve(expr)
    if isinstance(value, ir.Constant) and _is_tensor(value):
        return scope.as_parameter(value, "literal")  # a kernel holds scalars alone
    if not isinstance(value, Codes | Accumulator | Unsigned):
        return value
    if value not in scope.plain:
        scope.plain[value] = _written_out(scope, value)
    return scope.plain[value]


def _is_tensor(value: Any) -> bool:
    """True for a literal of elements that kernels compute with, unlike one that says a shape or an axis."""
    return isinstance(value.ty, relax.TensorType) and value.ty.ndim > 0 and dtype_of(value) in _LIFTED


def _written_out(scope: Scope, value: Codes | Accumulator | Unsigned) -> Any:
    if isinstance(value, Codes):
        return emit_dequantize(scope, value)
    if isinstance(value, Unsigned):
        return scope.unsigned(value)
    return scope.builder.emit(R.multiply(scope.builder.emit(R.astype(value.acc, "float32")), value.multiplier))


def _pieces(scope: Scope, call: Any) -> Any:
    """A split as one slice per part, because kernels have one output."""
    x, axis = _plain(scope, call.args[0]), int(call.attrs.axis)
    extent = shape_of(x)[axis]
    parts = call.attrs.indices_or_sections
    if isinstance(parts, int | tirx.IntImm):
        size = -(-extent // int(parts))
        bounds = [min(i * size, extent) for i in range(int(parts) + 1)]
    else:
        bounds = [0, *(int(i) for i in parts), extent]
    slices = [scope.builder.emit(R.strided_slice(x, [axis], [start], [stop], [1])) for start, stop in pairwise(bounds)]
    return relax.Tuple(slices)
