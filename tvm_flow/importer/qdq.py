"""QuantizeLinear and DequantizeLinear on int8 codes, and moving codes about without leaving int8.

uint8 codes are run as int8 ones, 128 less together with their zero point, which changes no real value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import ir, relax
from tvm.relax import op as R

from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.lifted import call_with, dtype_of, op_name, shape_of
from tvm_flow.importer.scope import Accumulator, Codes, Scope, Unsigned

MOVES = {"relax.reshape", "relax.permute_dims", "relax.squeeze", "relax.expand_dims"}
"""Operators that only move elements, and so commute with a per-tensor dequantize."""


def quantize(scope: Scope, call: Any, x: Any) -> Any:
    """Codes of the float tensor ``x``: saturate(rint(x / scale) + zero point)."""
    out = str(call.attrs.out_dtype)
    if out not in ("int8", "uint8", "int16") or dtype_of(x) != "float32":
        raise ImportGraphError(
            f"{call}: expected a quantize of float32 to int8 or uint8, got {dtype_of(x)} to {out}; use 8 bits"
        )
    if out != "int16" and scope.is_constant(x) and (codes := _constant_codes(scope, call, x, out)) is not None:
        return codes
    emit = scope.builder.emit
    scale, like = scope.scale(call.args[1]), Codes(x, None, None, int(call.attrs.axis))
    value = emit(R.round(emit(R.divide(x, broadcast(scope, scale, like)))))
    zero = scope.zero_point(call.args[2], constant_codes=False)
    if zero is not None:
        value = emit(R.add(value, broadcast(scope, scope.cast(zero, "float32"), like)))
    limits = np.iinfo("int16" if out == "int16" else "int8")
    codes = emit(R.astype(emit(R.clip(value, int(limits.min), int(limits.max))), str(limits.dtype)))
    return Unsigned(codes) if out == "uint8" else codes


def _constant_codes(scope: Scope, call: Any, x: Any, out: str) -> Any | None:
    """Codes of a float initializer, as quantization-aware training exports weights: a constant too.

    None for a scalar, and where the zero point is computed.
    """
    scale, zero = scope.scale(call.args[1]), scope.as_parameter(scope.resolve(call.args[2]), "zero_point")
    if not shape_of(x) or not scope.is_constant(zero):
        return None
    axis = int(call.attrs.axis) % len(shape_of(x))
    options = (axis, int(out == "uint8"))
    return scope.derive(f"{x.name}.{out}", "quantize", x, scale, zero, options=options)


def dequantized(scope: Scope, call: Any) -> Codes:
    """`Codes` for 8-bit codes, or the int32 codes of a bias.

    Raises ImportGraphError for other types and for scales that are not constant.
    """
    q = scope.resolve(call.args[0])
    if isinstance(q, Unsigned):
        q = q.q
    if not isinstance(q, relax.Var) or dtype_of(q) not in ("int8", "uint8", "int16", "int32"):
        raise ImportGraphError(f"{call}: expected int8, uint8 or int32 codes, got {q}; use 8-bit quantization")
    if str(call.attrs.out_dtype) != "float32":
        raise ImportGraphError(f"{call}: expected float32 values, got {call.attrs.out_dtype}; export in float32")
    constant = scope.is_constant(q)
    scale = scope.scale(call.args[1])
    axis = int(call.attrs.axis) if shape_of(scale) not in ((), (1,)) else None
    if dtype_of(q) == "uint8":
        q = scope.signed(q) if constant else _computed_signed(scope, q)
    return Codes(q, scale, scope.zero_point(call.args[2], constant), axis)


def _computed_signed(scope: Scope, q: Any) -> Any:
    emit = scope.builder.emit
    return emit(R.astype(emit(R.subtract(emit(R.astype(q, "int16")), relax.const(128, "int16"))), "int8"))


def emit_dequantize(scope: Scope, codes: Codes) -> Any:
    """float32(q - zero point) * scale, in floating point."""
    emit = scope.builder.emit
    value = emit(R.astype(codes.q, "float32"))
    if codes.zero_point is not None:
        zero = broadcast(scope, scope.cast(codes.zero_point, "float32"), codes)
        value = emit(R.subtract(value, zero))
    return emit(R.multiply(value, broadcast(scope, codes.scale, codes)))


def broadcast(scope: Scope, vector: Any, codes: Codes) -> Any:
    """``vector`` shaped to lie along the channel axis of ``codes``."""
    rank = len(shape_of(codes.q))
    if shape_of(vector) in ((), (1,)) or codes.axis is None:
        # A vector of one element would turn a scalar tensor into a vector.
        return scope.builder.emit(R.reshape(vector, [])) if rank == 0 and shape_of(vector) else vector
    if codes.axis % rank == rank - 1:
        return vector
    shape = [1] * rank
    shape[codes.axis] = shape_of(vector)[0]
    return scope.builder.emit(R.reshape(vector, shape))


def moved(scope: Scope, call: Any) -> Any | None:
    """What a reshape or transpose of codes gives; None where it must act on ordinary values."""
    source = scope.resolve(call.args[0])
    if isinstance(source, Accumulator | ir.Constant):
        return None
    codes = source.q if isinstance(source, Codes | Unsigned) else source
    flip = op_name(call) == "relax.permute_dims" and len(shape_of(codes)) == 2
    if scope.is_constant(codes):
        if not flip or dtype_of(codes) not in ("int8", "uint8") or not _swaps(call):
            return None
        transposed = scope.derive(f"{codes.name}.T", "transpose", codes)
        return _like(source, transposed, 1)
    if not isinstance(source, Codes | Unsigned) or (isinstance(source, Codes) and source.axis is not None):
        return None
    return _like(source, scope.builder.emit(call_with(call, [codes, *call.args[1:]])), 0)


def _swaps(call: Any) -> bool:
    axes = call.attrs.axes
    return axes is None or [int(a) % 2 for a in axes] == [1, 0]


def _like(source: Any, q: Any, flips: int) -> Any:
    if isinstance(source, Unsigned):
        return Unsigned(q)
    if not isinstance(source, Codes):
        return q
    axis = None if source.axis is None else (source.axis + flips) % 2
    return Codes(q, source.scale, source.zero_point, axis)
