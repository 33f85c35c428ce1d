"""What every operator that a kernel may hold means: on integers exactly, on floats with a bound.

Integer results that leave their type are errors, because the kernel would have wrapped. Codes of a rounded float carry
their doubt along, so that arithmetic on them (an unsigned output, a dequantize in the same kernel) keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tvm_flow.errors import BitExactError
from tvm_flow.numerics import bounded, convolution
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.integer_program import program_from_text
from tvm_flow.numerics.rounded import Array, Rounded, Value, doubt_of, narrow, with_doubt
from tvm_flow.numerics.tosa_operators import NumpyOperators

EXP_RELATIVE = 4 * bounded.U
EXP_ABSOLUTE = 1.7e-38
"""What the kernels' exponential promises: see `tvm_flow.lower.exponential`, whose tests hold it to these."""


def _same_kind(name: str, *values: Value) -> bool:
    """True when all are floats, False when none is."""
    kinds = {isinstance(value, Bounded) for value in values}
    if len(kinds) > 1:
        raise BitExactError(f"{name}: expected operands of one kind, got floats and integers; cast them in the graph")
    return kinds == {True}


def _additive(on_floats: Callable[[Bounded, Bounded], Bounded], on_ints: Callable[[Array, Array], Array]) -> Any:
    """Addition or subtraction."""

    def run(expr: Any, args: list[Any]) -> Value:
        a, b = args
        if _same_kind(str(expr.op.name), a, b):
            return on_floats(a, b)
        wide = on_ints(np.asarray(a, np.int64), np.asarray(b, np.int64))
        return with_doubt(narrow(wide, a.dtype), doubt_of(a) + doubt_of(b))

    return run


def _multiply(expr: Any, args: list[Any]) -> Value:
    a, b = args
    if _same_kind(str(expr.op.name), a, b):
        return bounded.multiply(a, b)
    x, y, dx, dy = np.asarray(a, np.int64), np.asarray(b, np.int64), doubt_of(a), doubt_of(b)
    return with_doubt(narrow(x * y, a.dtype), np.abs(x) * dy + np.abs(y) * dx + dx * dy)


def _floats(on_floats: Callable[..., Bounded]) -> Any:
    """An operator on float tensors alone."""
    return lambda expr, args: on_floats(*(_float(str(expr.op.name), arg) for arg in args))


def _float(name: str, value: Value) -> Bounded:
    if not isinstance(value, Bounded):
        raise BitExactError(f"{name}: expected a float tensor, got {value.dtype}; cast it in the graph")
    return value


def _cast(expr: Any, args: list[Any]) -> Value:
    value, dtype = args[0], str(expr.ty.dtype)
    if isinstance(value, Bounded):
        return value if dtype == "float32" else _truncated(value, dtype)
    if dtype == "float32":
        exact = Bounded(np.asarray(value, np.float64), doubt_of(value))
        fits = np.abs(exact.value).max(initial=0.0) <= 2**24
        return exact if fits else bounded.rounded(exact.value, exact.error)
    return with_doubt(narrow(np.asarray(value, np.int64), dtype), doubt_of(value))


def _truncated(value: Bounded, dtype: str) -> Array:
    """Float to integer as C casts: towards zero; usually of what was rounded and clipped before."""
    if not np.isfinite(value.value).all():
        raise BitExactError(
            f"cast to {dtype}: expected finite values, got NaN or infinity, which no code stands for; look for an "
            "overflow"
        )
    whole = np.trunc(value.value)
    doubt = np.maximum(np.trunc(value.value + value.error) - whole, whole - np.trunc(value.value - value.error))
    return Rounded(narrow(whole.astype(np.int64), dtype), doubt)


def _matmul(expr: Any, args: list[Any]) -> Value:
    a, b = args
    if _same_kind("matmul", a, b):
        return bounded.matmul(a, b)
    # Every partial sum of int8 products is an integer far below 2^53, so float64 BLAS is exact.
    x, y, dx, dy = np.asarray(a, np.float64), np.asarray(b, np.float64), doubt_of(a), doubt_of(b)
    exact = narrow((x @ y).astype(np.int64), str(expr.ty.dtype))
    if not (dx.any() or dy.any()):
        return exact
    return with_doubt(exact, dx @ (np.abs(y) + dy) + np.abs(x) @ dy)


def _move(change: Callable[[Any, Array], Array]) -> Any:
    """An operator that only moves elements: applied to values and bounds alike."""

    def run(expr: Any, args: list[Any]) -> Value:
        value = args[0]
        if isinstance(value, Bounded):
            return Bounded(change(expr, value.value), change(expr, value.error))
        return with_doubt(change(expr, np.asarray(value)), change(expr, doubt_of(value)))

    return run


def _shape(expr: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expr.ty.shape)


def _transposed(expr: Any, array: Array) -> Array:
    axes = expr.attrs.axes
    return array.transpose(None if axes is None else [int(a) for a in axes])


def _slice(expr: Any, array: Array) -> Array:
    axes, begin, end, *strides = ([_int(v) for v in part.fields] for part in expr.args[1:5])
    picked: list[slice] = [slice(None)] * array.ndim
    for axis, start, stop, step in zip(axes, begin, end, strides[0] if strides else [1] * len(axes), strict=True):
        picked[axis] = slice(start, stop, step)
    return array[tuple(picked)]


def _int(value: Any) -> int:
    return int(getattr(value, "value", value))


def _concat(expr: Any, args: list[Any]) -> Value:
    axis, parts = int(expr.attrs.axis), args[0]
    if _same_kind("concat", *parts):
        values, errors = ([getattr(p, part) for p in parts] for part in ("value", "error"))
        return Bounded(np.concatenate(values, axis), np.concatenate(errors, axis))
    joined = np.concatenate([np.asarray(p) for p in parts], axis)
    return with_doubt(joined, np.concatenate([doubt_of(p) for p in parts], axis))


def _axes(expr: Any, rank: int) -> tuple[int, ...]:
    axes = expr.attrs.axis
    return tuple(range(rank)) if axes is None else tuple(int(a) % rank for a in axes)


def _sum(expr: Any, args: list[Any]) -> Value:
    value, keep = args[0], bool(expr.attrs.keepdims)
    if isinstance(value, Bounded):
        return bounded.total(value, _axes(expr, value.value.ndim), keep)
    axes = _axes(expr, value.ndim)
    wide = np.asarray(value, np.int64).sum(axis=axes, keepdims=keep)
    return with_doubt(narrow(np.asarray(wide), value.dtype), doubt_of(value).sum(axis=axes, keepdims=keep))


def _max(expr: Any, args: list[Any]) -> Value:
    value = _float("max", args[0])
    return bounded.largest(value, _axes(expr, value.value.ndim), bool(expr.attrs.keepdims))


def _clip(expr: Any, args: list[Any]) -> Value:
    low, high = (float(getattr(a, "value", a)) for a in expr.args[1:3])
    return bounded.clip(_float("clip", args[0]), low, high)


def _exp(a: Bounded) -> Bounded:
    return bounded.exponential(a, EXP_RELATIVE, EXP_ABSOLUTE)


def _conv2d(expr: Any, args: list[Any]) -> Value:
    convolution.require_plain(expr.attrs)
    return convolution.conv2d(*(_float("conv2d", arg) for arg in args))


INTEGERS = "tvm_flow.integers"
"""`tvm_flow.graph.integers`: a computation by TOSA's integer operators."""


def _integers(expr: Any, args: list[Any]) -> Value:
    result: Array = program_from_text(str(expr.attrs["program"])).run(NumpyOperators(), args)
    return result


OPERATORS: dict[str, Callable[[Any, list[Any]], Value]] = {
    "relax.add": _additive(bounded.add, np.add),
    "relax.subtract": _additive(bounded.subtract, np.subtract),
    "relax.multiply": _multiply,
    "relax.divide": _floats(bounded.divide),
    "relax.maximum": _floats(bounded.maximum),
    "relax.minimum": _floats(bounded.minimum),
    "relax.sqrt": _floats(bounded.sqrt),
    "relax.exp": _floats(_exp),
    "relax.round": _floats(bounded.round_half_even),
    "relax.clip": _clip,
    "relax.astype": _cast,
    "relax.matmul": _matmul,
    "relax.nn.conv2d": _conv2d,
    "relax.nn.pad": _move(convolution.padded),
    "relax.sum": _sum,
    "relax.max": _max,
    "relax.reshape": _move(lambda expr, array: array.reshape(_shape(expr))),
    "relax.squeeze": _move(lambda expr, array: array.reshape(_shape(expr))),
    "relax.expand_dims": _move(lambda expr, array: array.reshape(_shape(expr))),
    "relax.broadcast_to": _move(lambda expr, array: np.broadcast_to(array, _shape(expr))),
    "relax.permute_dims": _move(_transposed),
    "relax.strided_slice": _move(_slice),
    "relax.concat": _concat,
    INTEGERS: _integers,
}
