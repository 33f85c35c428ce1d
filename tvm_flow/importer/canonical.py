"""Composite operators written out in the few that the reference knows, and that fuse into one kernel.

    layer_norm(x; g, b)   d = x - sum(x) / C;  d * (1 / sqrt(sum(d * d) / C + eps)) * g + b
    softmax(x)            e = exp(x - max(x));  e / sum(e)                                  over the last axis
    gelu_tanh(x)          x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3)))     as (1 + tanh u) / 2 = 1 / (1 + exp(-2u))
    silu(x)               x / (1 + exp(-x))
    sigmoid(x)            1 / (1 + exp(-x))       in these three exp of 88 at most, so that no divisor may be infinite
    relu(x)               max(x, 0)
    mean(x)               sum(x) / n
    max(stack(x, y, ..))  maximum(maximum(x, y), ..)    and min, as TVM's importer writes ONNX's Max and Min
    conv2d(x, w; pad)     conv2d(zeros around x, w)     of stride 1, without groups or dilation

Writing them out states the order of float operations once; kernels are generated from it and the reference bounds
their rounding errors from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tvm import ir, relax
from tvm.relax import op as R

from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.constants import Given
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
from tvm_flow.numerics.reference import OPERATORS

GELU_LINEAR = 2.0 * math.sqrt(2.0 / math.pi)
GELU_CUBIC = GELU_LINEAR * 0.044715


def canonicalize(graph: LiftedGraph) -> LiftedGraph:
    """Write out composite operators and drop parameters that nothing reads.

    Raises ImportGraphError naming an operator that is neither composite nor one that the reference knows.
    """
    main = graph.module["main"]
    count = len(graph.inputs)
    inputs = [tensor_var(p.name, shape_of(p), dtype_of(p)) for p in main.params[:count]]
    builder = Builder(inputs)
    env = dict(zip(main.params[:count], inputs, strict=True))

    def resolve(expr: Any) -> Any:
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([resolve(field) for field in expr.fields])
        if not isinstance(expr, relax.Var):
            return expr
        if expr not in env:
            constant = graph.constants.get(expr.name, Given(expr.name))
            env[expr] = builder.parameter(expr.name, constant, shape_of(expr), dtype_of(expr))
        return env[expr]

    with builder.block.function("main"):
        with builder.block.dataflow():
            for var, value in bindings_of(main):
                env[var] = _rewrite(builder, value, resolve)
            output = builder.block.emit_output(_computed(builder, inputs, resolve(main.body.body)))
        builder.block.emit_func_output(output, [*inputs, *builder.parameters.values()])
    module = builder.block.get()
    _require_floats(module["main"])
    return replace(graph, module=module, constants=builder.constants)


def _computed(builder: Builder, inputs: list[Any], output: Any) -> Any:
    """``output``, copied when it is no kernel's: an input, a constant; of several outputs each."""
    if isinstance(output, relax.Tuple):
        return relax.Tuple([_computed(builder, inputs, field) for field in output.fields])
    if isinstance(output, ir.Constant) and dtype_of(output) not in ("float32", "int8", "int32"):
        raise ImportGraphError(f"output: expected float32 values or codes, got a constant of {dtype_of(output)}")
    if isinstance(output, ir.Constant) or output in inputs or builder.is_parameter(output):
        return builder.emit(R.reshape(output, shape_of(output)))
    return output


def _rewrite(builder: Builder, value: Any, resolve: Callable[[Any], Any]) -> Any:
    if not op_name(value):
        return resolve(value)
    args = [resolve(a) for a in value.args]
    rule = _RULES.get(op_name(value))
    expanded = rule(builder, value.attrs, *args) if rule else None
    if expanded is None and op_name(value) not in OPERATORS:
        raise ImportGraphError(
            f"operator {op_name(value)} with {value.attrs or 'no attributes'}: expected one with an exact meaning "
            f"({', '.join(sorted(OPERATORS | _RULES))}; reductions over the last axis); write it with these"
        )
    return builder.emit(call_with(value, args)) if expanded is None else expanded


def _require_floats(function: Any) -> None:
    """Raises ImportGraphError for integers where kernels and reference know floats alone."""
    for _, call in bindings_of(function):
        if op_name(call) in _FLOATS:
            kinds = [dtype_of(arg) for arg in call.args if isinstance(arg.ty, relax.TensorType)]
            if wrong := [kind for kind in kinds if kind != "float32"]:
                raise ImportGraphError(
                    f"operator {op_name(call)}: expected float32 operands, got {wrong[0]}; dequantize or cast them"
                )


_FLOATS = {
    *("relax.divide", "relax.maximum", "relax.minimum", "relax.sqrt", "relax.exp", "relax.round", "relax.clip"),
    *("relax.max", "relax.nn.conv2d"),
}


def _f32(value: float) -> Any:
    return relax.const(value, "float32")


def _last_axis_only(x: Any, axes: Any) -> bool:
    rank = len(shape_of(x))
    return [int(a) % rank for a in axes] == [rank - 1]


def _row_mean(builder: Builder, x: Any) -> Any:
    total = builder.emit(R.sum(x, axis=-1, keepdims=True))
    return builder.emit(R.divide(total, _f32(float(shape_of(x)[-1]))))


def _layer_norm(builder: Builder, attrs: Any, x: Any, gain: Any, shift: Any) -> Any:
    if not _last_axis_only(x, attrs.axes):
        return None
    centred = builder.emit(R.subtract(x, _row_mean(builder, x)))
    variance = _row_mean(builder, builder.emit(R.multiply(centred, centred)))
    deviation = builder.emit(R.sqrt(builder.emit(R.add(variance, _f32(float(attrs.epsilon))))))
    inverse = builder.emit(R.divide(_f32(1.0), deviation))
    value = builder.emit(R.multiply(centred, inverse))
    if attrs.scale:
        value = builder.emit(R.multiply(value, gain))
    return builder.emit(R.add(value, shift)) if attrs.center else value


def _softmax(builder: Builder, attrs: Any, x: Any) -> Any:
    if not _last_axis_only(x, [attrs.axis]):
        return None
    peak = builder.emit(R.max(x, axis=-1, keepdims=True))
    exponential = builder.emit(R.exp(builder.emit(R.subtract(x, peak))))
    total = builder.emit(R.sum(exponential, axis=-1, keepdims=True))
    return builder.emit(R.divide(exponential, total))


def _times_sigmoid(builder: Builder, x: Any, negated: Any) -> Any:
    """x / (1 + exp(negated)); beyond 88 that is below 1e-38 of x."""
    negated = builder.emit(R.minimum(negated, _f32(88.0)))
    below = builder.emit(R.add(builder.emit(R.exp(negated)), _f32(1.0)))
    return builder.emit(R.divide(x, below))


def _gelu_tanh(builder: Builder, _attrs: Any, x: Any) -> Any:
    square = builder.emit(R.multiply(x, x))
    slope = builder.emit(R.add(builder.emit(R.multiply(square, _f32(-GELU_CUBIC))), _f32(-GELU_LINEAR)))
    return _times_sigmoid(builder, x, builder.emit(R.multiply(x, slope)))


def _silu(builder: Builder, _attrs: Any, x: Any) -> Any:
    return _times_sigmoid(builder, x, builder.emit(R.multiply(x, _f32(-1.0))))


def _sigmoid(builder: Builder, _attrs: Any, x: Any) -> Any:
    return _times_sigmoid(builder, _f32(1.0), builder.emit(R.multiply(x, _f32(-1.0))))


def _relu(builder: Builder, _attrs: Any, x: Any) -> Any:
    return builder.emit(R.maximum(x, _f32(0.0)))


def _stack(_builder: Builder, attrs: Any, parts: Any) -> Any:
    """Kept as a tuple for the maximum or minimum that follows."""
    return parts if int(attrs.axis) == 0 else None


def _extreme(pairwise: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """The maximum or minimum over what was stacked; None over the axis of a tensor."""

    def rule(builder: Builder, attrs: Any, parts: Any) -> Any:
        if not isinstance(parts, relax.Tuple) or [int(a) for a in attrs.axis or ()] != [0] or attrs.keepdims:
            return None
        first, *others = parts.fields
        for other in others:
            first = builder.emit(pairwise(first, other))
        return first

    return rule


def _mean(builder: Builder, attrs: Any, x: Any) -> Any:
    shape = shape_of(x)
    axes = range(len(shape)) if attrs.axis is None else [int(a) for a in attrs.axis]
    total = builder.emit(R.sum(x, axis=list(axes), keepdims=bool(attrs.keepdims)))
    return builder.emit(R.divide(total, _f32(float(math.prod(shape[a] for a in axes)))))


def _conv2d(builder: Builder, attrs: Any, x: Any, weight: Any) -> Any:
    top, left, bottom, right = (int(p) for p in attrs.padding)
    plain = [int(v) for v in (*attrs.strides, *attrs.dilation, attrs.groups)] == [1] * 5
    if not plain or str(attrs.data_layout) != "NCHW":
        raise ImportGraphError(
            f"conv2d: expected stride 1 without dilation or groups, on NCHW, got {attrs}; write it as such convolutions"
        )
    if top or left or bottom or right:
        x = builder.emit(R.nn.pad(x, [0, 0, 0, 0, top, bottom, left, right]))
    return builder.emit(R.nn.conv2d(x, weight))


_RULES: dict[str, Callable[..., Any]] = {
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.softmax": _softmax,
    "relax.nn.gelu_tanh": _gelu_tanh,
    "relax.nn.silu": _silu,
    "relax.sigmoid": _sigmoid,
    "relax.nn.relu": _relu,
    "relax.mean": _mean,
    "relax.stack": _stack,
    "relax.max": _extreme(R.maximum),
    "relax.min": _extreme(R.minimum),
    "relax.nn.conv2d": _conv2d,
}
