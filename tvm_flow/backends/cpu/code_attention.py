"""The attention of codes that a kernel is, between moves and elementwise steps: `tvm_flow.export.code_attention`.

    q, k, v    int8, or what a product left, scaled, normed and rotated as in `tvm_flow.backends.cpu.softmax`, then
               clip(round(x / scale)), each with a scale of its own
    s_k        = steps(float(sum_d q_d k_dk))              int32, exact; its scale, and a mask
    c_k        = clip(round(exp(s_k - max s) g / u) + z)   int8; g = 255 and u = 1, so that c - z is 0 to 255, z = -128
    t          = u sum_k (c_k - z)                         whole numbers below 2^24: exact in float32
    out        = steps(float(sum_k c_k v_k - z sum_k v_k)) / t

The correction z sum_k v_k is a parameter where the prologue made it. Where it is not, the kernel multiplies c - z and
corrects nothing: the same integer. Everything up to s, and from there to c, is element for element what kernels apart
do, in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.backends.cpu.moved import (
    Step,
    Values,
    along_rows,
    arguments_of,
    operand_of,
    steps_before,
    written_of,
)
from tvm_flow.backends.cpu.operand_rows import Read, read_of
from tvm_flow.backends.cpu.softmax import Attention
from tvm_flow.backends.cpu.views import View, whole
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, returned, shape_of
from tvm_flow.graph.types import Expr, Relax, Var

MOST_KEYS = 1 << 16
"""So many weights of 255 add up exactly in float32."""
_TO_CODES = ["relax.round", "relax.clip", "relax.astype"]
_WHOLE = (-128.0, 127.0)


@dataclass(frozen=True)
class Coding:
    """How an exponential becomes a code: the factor g, the unit u, and z, an int8 parameter."""

    factor: Var | float
    unit: Var | float
    zero: Var


@dataclass(frozen=True)
class CodeAttention(Attention):
    """`Attention` of codes; ``scaled`` are the steps on the second product's sums before they are divided."""

    coding: Coding
    scaled: tuple[Step, ...]
    correction: tuple[Var, View] | None
    """int32 [.., 1, E] as [.., M, E], where it is given."""


def as_code_attention(function: Relax) -> CodeAttention | None:
    """What ``function`` computes, or None where it is something else."""
    values, given = dict(bindings_of(function)), tuple(function.params)
    found = written_of(values, given, returned(function), _is_share)
    if found is None:
        return None
    wide, total = values[found[0]].args
    sums = _float_sums(values, given, wide)
    product = arguments_of(values, sums[0].product, "relax.matmul") if sums else None
    weights = _weights(values, given, product[0], total) if product else None
    if not sums or not product or not weights:
        return None
    parts, scaled = sums
    correction = _correction(values, given, parts.subtracted, (product[1], weights.coding.zero))
    reads = [read_of(values, given, each) for each in (*weights.operands, product[1])]
    kept = [read for read in reads if read is not None and _gives_codes(read)]
    if correction is None or len(kept) < 3:
        return None
    q, k, v = kept
    shapes = [each.view.shape for each in kept]
    if not (q.has_rows_along(-1) and k.has_rows_along(-2)) or v.by_row or shape_of(product[1])[-2] > MOST_KEYS:
        return None
    if any(len(shape) < 3 or shape[:-2] != shapes[0][:-2] for shape in shapes):
        return None
    view = None if correction.given is None else whole(shape_of(correction.given)).spread(shape_of(parts.product))
    seen = None if correction.given is None or view is None else (correction.given, view)
    return CodeAttention(given, q, k, v, weights.steps, found[1], weights.coding, scaled, seen)


def _is_share(values: Values, call: Expr) -> bool:
    """Whether ``call`` divides by sums of weights: what the elements of such an attention come from."""
    return op_name(call) == "relax.divide" and along_rows(values, call.args[1], "relax.sum") is not None


@dataclass(frozen=True)
class _Parts:
    product: Var
    subtracted: Var


def _float_sums(values: Values, given: tuple[Var, ...], wide: Expr) -> tuple[_Parts, tuple[Step, ...]] | None:
    """The product less what corrects it that ``wide`` is made of, and by which steps."""
    found = steps_before(values, given, wide)
    sums = None if found is None else _inner(values, found[0], "relax.astype")
    parts = arguments_of(values, sums, "relax.subtract")
    return (_Parts(*parts), found[1]) if found and parts and dtype_of(sums) == "int32" else None


@dataclass(frozen=True)
class _Weights:
    operands: tuple[Var, Var]
    steps: tuple[Step, ...]
    coding: Coding


def _weights(values: Values, given: tuple[Var, ...], codes: Var, total: Expr) -> _Weights | None:
    """How the weights' ``codes`` are made, whose sum ``total`` is."""
    added = arguments_of(values, _inner(values, codes, "relax.astype", "relax.clip"), "relax.add")
    divided = added and arguments_of(values, _inner(values, added[0], "relax.round"), "relax.divide")
    scaled = divided and arguments_of(values, divided[0], "relax.multiply")
    if not added or not divided or not scaled or not _is_cut(codes, values):
        return None
    zero, scores = _cast(values, given, added[1]), _below_exponential(values, scaled[0])
    factor, unit = (operand_of(each, given) for each in (scaled[1], divided[1]))
    before = None if scores is None else steps_before(values, given, scores)
    sums = None if before is None else _inner(values, before[0], "relax.astype")
    operands = arguments_of(values, sums, "relax.matmul")
    if before is None or zero is None or factor is None or unit is None or not operands or dtype_of(sums) != "int32":
        return None
    coding = Coding(factor, unit, zero)
    right = _is_total(values, given, total, (codes, coding)) and all(_is_scalar(each) for each in (factor, unit, zero))
    return _Weights((operands[0], operands[1]), before[1], coding) if right else None


def _below_exponential(values: Values, power: Expr) -> Var | None:
    """The s of exp(s - max s)."""
    shifted = arguments_of(values, _inner(values, power, "relax.exp"), "relax.subtract")
    top = along_rows(values, shifted[1], "relax.max") if shifted else None
    return shifted[0] if shifted and top is not None and top.same_as(shifted[0]) else None


def _is_total(values: Values, given: tuple[Var, ...], total: Expr, weights: tuple[Var, Coding]) -> bool:
    """Whether ``total`` adds up, along a row, u (c - z)."""
    codes, coding = weights
    shares = arguments_of(values, along_rows(values, total, "relax.sum"), "relax.multiply")
    less = shares and arguments_of(values, shares[0], "relax.subtract")
    if not shares or not less or not _is_same(operand_of(shares[1], given), coding.unit):
        return False
    code, zero = _inner(values, less[0], "relax.astype"), _cast(values, given, less[1])
    return code is not None and code.same_as(codes) and zero is not None and zero.same_as(coding.zero)


def _is_same(a: Var | float | None, b: Var | float) -> bool:
    return a == b if isinstance(a, float) or isinstance(b, float) or a is None else bool(a.same_as(b))


@dataclass(frozen=True)
class _Correction:
    given: Var | None


def _correction(
    values: Values, given: tuple[Var, ...], subtracted: Var, operands: tuple[Var, Var]
) -> _Correction | None:
    """Whether ``subtracted`` is z sum_k v_k, of ``operands`` v and z, made here or given; None for something else."""
    v, zero = operands
    if subtracted in given:
        return _Correction(subtracted) if dtype_of(subtracted) == "int32" else None
    for total, factor in _both_ways(arguments_of(values, subtracted, "relax.multiply")):
        code, z = _inner(values, total, "relax.sum", "relax.astype"), _cast(values, given, factor)
        if code is not None and code.same_as(v) and z is not None and z.same_as(zero) and _over_keys(values[total]):
            return _Correction(None)
    return None


def _over_keys(call: Expr) -> bool:
    rank = len(shape_of(call.args[0]))
    return [int(axis) % rank for axis in call.attrs.axis or ()] == [rank - 2] and bool(call.attrs.keepdims)


def _both_ways(pair: tuple[Expr, ...] | None) -> tuple[tuple[Expr, ...], ...]:
    return () if pair is None else (pair, pair[::-1])


def _inner(values: Values, var: Expr | None, *operators: str) -> Expr | None:
    """What ``operators``, the last first, were done to, of which ``var`` is the result."""
    for operator in operators:
        arguments = arguments_of(values, var, operator)
        var = arguments[0] if arguments else None
    return var


def _cast(values: Values, given: tuple[Var, ...], var: Expr) -> Var | None:
    """The int8 parameter that ``var`` is in another type."""
    found = _inner(values, var, "relax.astype")
    return found if found is not None and found in given and dtype_of(found) == "int8" else None


def _is_scalar(operand: Var | float) -> bool:
    return isinstance(operand, float) or shape_of(operand) == ()


def _is_cut(codes: Var, values: Values) -> bool:
    """Whether ``codes`` are cut to int8 as int8 is."""
    return dtype_of(codes) == "int8" and _limits(values[values[codes].args[0]]) == _WHOLE


def _limits(clip: Expr) -> tuple[float, ...]:
    return tuple(float(getattr(limit, "value", limit)) for limit in clip.args[1:3])


def _gives_codes(read: Read) -> bool:
    """Whether what is read is int8: as it lies, or by a round, a clip and a cast at last."""
    if dtype_of(read.source) == "int8":
        return not read.steps
    last = read.to_codes
    if dtype_of(read.source) != "float32" or [step.operator for step in last] != _TO_CODES:
        return False
    return read.steps[-3:] == last and _limits(last[1].call) == _WHOLE and dtype_of(last[2].call) == "int8"
