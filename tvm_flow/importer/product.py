"""int8 x int8 -> int32: a quantized activation times a quantized constant weight, and its int32 bias.

Or times another activation, with one scale and zero point each, as attention multiplies:

    acc = sum_k qx qw  - zw sum_k qx  - zx sum_k qw  + K zx zw          exact, int32

See `tvm_flow.importer.integer` for the formulas of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax import op as R

from tvm_flow.graph.lifted import dtype_of, shape_of
from tvm_flow.importer.scope import Accumulator, Codes, Scope

INT32_MAX = 2**31 - 1


def linear(scope: Scope, var: Any, call: Any) -> Accumulator | None:
    """The integer product that ``var`` is; None when it must stay float, with the reason in ``scope.left``."""
    x, w = (scope.resolve(a) for a in call.args)
    if not isinstance(x, Codes) and not isinstance(w, Codes):
        return None
    if reason := _obstacle(scope, x, w):
        scope.left.append(f"matmul {var.name}: {reason}")
        return None
    emit, constant = scope.builder.emit, scope.is_constant(w.q)
    acc = emit(R.matmul(x.q, w.q, out_dtype="int32"))
    if w.zero_point is not None:
        acc = emit(R.subtract(acc, _shift(scope, x.q, -1, w.zero_point)))
    if x.zero_point is not None:
        acc = emit(R.add(acc, _correction(scope, x, w)) if constant else R.subtract(acc, _rest(scope, x, w)))
    name = f"{w.q.name}.multiplier.{var.name}" if constant else f"{var.name}.multiplier"
    multiplier = scope.derive(name, "product", x.scale, w.scale)
    scales = (scope.constant_of(x.scale), scope.constant_of(w.scale))
    return Accumulator(acc, multiplier, scales, accumulator_limit(x, w))


def accumulator_limit(x: Codes, w: Codes) -> int:
    """The largest magnitude that a sum, or a part of it, can have: codes less their zero points are up to 255."""
    sizes = [128 if codes.zero_point is None else 255 for codes in (x, w)]
    return shape_of(w.q)[-2] * sizes[0] * sizes[1]


def _obstacle(scope: Scope, x: Any, w: Any) -> str:
    """Why this product cannot be an integer one; empty when it can."""
    if not isinstance(x, Codes) or not isinstance(w, Codes):
        return "one operand is not quantized"
    if (dtype_of(x.q), dtype_of(w.q)) != ("int8", "int8"):
        return f"its operands are {dtype_of(x.q)} and {dtype_of(w.q)} codes"
    if x.axis is not None:
        return "the activation has a scale per channel"
    if not scope.is_constant(w.q):
        if min(len(shape_of(codes.q)) for codes in (x, w)) < 2 or scope.is_constant(x.q):
            return "an operand is a vector, or a constant on the left"
        if w.axis is not None:
            return "the right operand, an activation, has a scale per channel"
    elif len(shape_of(w.q)) != 2:
        return "the right operand is a constant that is no matrix"
    if w.axis is not None and w.axis % 2 != 1:
        return "the weight has scales along its input channels"
    if (limit := accumulator_limit(x, w)) > INT32_MAX:
        return f"sums over {shape_of(w.q)[-2]} products of codes reach {limit}, beyond int32"
    return ""


def _shift(scope: Scope, q: Any, axis: int, zero_point: Any) -> Any:
    """The sums of codes ``q`` along ``axis`` times the other operand's zero point."""
    emit = scope.builder.emit
    sums = emit(R.sum(emit(R.astype(q, "int32")), axis=axis, keepdims=True))
    return emit(R.multiply(sums, scope.cast(zero_point, "int32")))


def _rest(scope: Scope, x: Codes, w: Codes) -> Any:
    """zx (sum_k qw - K zw) of two activations."""
    if w.zero_point is None:
        return _shift(scope, w.q, -2, x.zero_point)
    emit = scope.builder.emit
    zeros = [scope.cast(codes.zero_point, "int32") for codes in (x, w)]
    both = emit(R.multiply(emit(R.multiply(*zeros)), relax.const(shape_of(w.q)[-2], "int32")))
    return emit(R.subtract(_shift(scope, w.q, -2, x.zero_point), both))


def _correction(scope: Scope, x: Codes, w: Codes) -> Any:
    """c[n] of the formula, without the bias."""
    zx = scope.as_parameter(x.zero_point, "activation_zero_point")
    zw = scope.as_parameter(w.zero_point if w.zero_point is not None else relax.const(0, "int8"), "zero_point")
    return scope.derive(f"{w.q.name}.correction.{zx.name}.{zw.name}", "zero_point_correction", zx, w.q, zw)


def bias_add(scope: Scope, call: Any) -> Accumulator | None:
    """Add int32 bias codes into an accumulator that they share the scale of; None for any other addition."""
    first, second = (scope.resolve(a) for a in call.args)
    for acc, bias in ((first, second), (second, first)):
        if isinstance(acc, Accumulator) and isinstance(bias, Codes) and _fits(scope, acc, bias):
            limit = acc.limit + _largest(scope, bias)
            return Accumulator(scope.builder.emit(R.add(acc.acc, bias.q)), acc.multiplier, acc.scales, limit)
    return None


def _fits(scope: Scope, acc: Accumulator, bias: Codes) -> bool:
    """True for int32 codes along the output channels, with the accumulator's scale, whose sum stays in int32."""
    along_last = bias.axis is None or bias.axis % len(shape_of(bias.q)) == len(shape_of(bias.q)) - 1
    if dtype_of(bias.q) != "int32" or bias.zero_point is not None or not along_last:
        return False
    if not scope.is_constant(bias.q) or acc.limit + _largest(scope, bias) > INT32_MAX:
        return False
    # Equal to one float32 rounding, as every exporter writes it.
    product = np.multiply(*(scope.value(s) for s in acc.scales), dtype=np.float64)
    return bool(np.all(np.abs(scope.array(bias.scale) - product) <= 2.0**-23 * np.abs(product)))


def _largest(scope: Scope, bias: Codes) -> int:
    return int(np.abs(scope.array(bias.q).astype(np.int64)).max(initial=0))
