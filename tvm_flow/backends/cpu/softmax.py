"""The attention that a kernel is, where it is softmax(steps(Q K^T)) V and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import relax

from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, returned, shape_of
from tvm_flow.graph.types import Expr, Relax, Var

_STEPS = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide"}


@dataclass(frozen=True)
class Step:
    """``scores operator operand``, elementwise with broadcasting; the operand comes first where ``first`` is set.

    An operand is a parameter of the kernel or a number.
    """

    operator: str
    operand: Var | float
    first: bool


@dataclass(frozen=True)
class Attention:
    """q [.., M, D], k transposed [.., D, S] and v [.., S, E], float32, to [.., M, E]: parameters of the kernel.

    ``steps`` come between the first product and the softmax, in order: a scale, a mask.
    """

    parameters: tuple[Var, ...]
    q: Var
    k: Var
    v: Var
    steps: tuple[Step, ...]

    @property
    def batch(self) -> tuple[int, ...]:
        """The dimensions before M, D, S and E, which all three share."""
        return shape_of(self.q)[:-2]

    @property
    def rows(self) -> int:
        """M."""
        return shape_of(self.q)[-2]

    @property
    def depth(self) -> int:
        """D."""
        return shape_of(self.q)[-1]

    @property
    def keys(self) -> int:
        """S."""
        return shape_of(self.v)[-2]

    @property
    def channels(self) -> int:
        """E."""
        return shape_of(self.v)[-1]

    @property
    def products(self) -> int:
        """Multiplications of the second product."""
        return math.prod(self.batch) * self.rows * self.keys * self.channels


def as_attention(function: Relax) -> Attention | None:
    """What ``function`` computes, or None where it is something else or broadcasts its batches."""
    values = dict(bindings_of(function))
    given = tuple(function.params)
    arguments = _arguments(values, returned(function), "relax.matmul")
    scores = None if arguments is None else _below_softmax(values, arguments[0])
    found = None if scores is None else _product_and_steps(values, given, scores)
    if arguments is None or found is None:
        return None
    (q, k), steps = found
    attention = Attention(given, q, k, arguments[1], steps)
    tensors = (q, k, arguments[1])
    if any(tensor not in given or dtype_of(tensor) != "float32" for tensor in tensors):
        return None
    shapes = [shape_of(tensor) for tensor in tensors]
    return attention if all(len(s) > 2 and s[:-2] == attention.batch for s in shapes) else None


def _arguments(values: Mapping[Var, Expr], var: Expr, operator: str) -> tuple[Expr, ...] | None:
    """Of the call that ``var`` stands for, where it is one of ``operator``."""
    call = values.get(var)
    return tuple(call.args) if call is not None and op_name(call) == operator else None


def _below_softmax(values: Mapping[Var, Expr], weights: Expr) -> Var | None:
    """What ``weights`` is the softmax of, along its last axis."""
    divided = _arguments(values, weights, "relax.divide")
    power = divided and _arguments(values, divided[0], "relax.exp")
    shifted = power and _arguments(values, power[0], "relax.subtract")
    if not divided or not shifted:
        return None
    scores, top = shifted
    totals, peaks = (_along_rows(values, *pair) for pair in ((divided[1], "relax.sum"), (top, "relax.max")))
    right = totals is not None and totals.same_as(divided[0]) and peaks is not None and peaks.same_as(scores)
    return scores if right else None


def _along_rows(values: Mapping[Var, Expr], var: Expr, operator: str) -> Var | None:
    """What ``var`` is ``operator`` of, where it runs along the last axis and keeps it."""
    arguments = _arguments(values, var, operator)
    if not arguments:
        return None
    attributes, last = values[var].attrs, len(shape_of(arguments[0])) - 1
    axes = [int(axis) % (last + 1) for axis in attributes.axis or ()]
    return arguments[0] if axes == [last] and attributes.keepdims else None


def _product_and_steps(
    values: Mapping[Var, Expr], given: tuple[Var, ...], scores: Var
) -> tuple[tuple[Var, Var], tuple[Step, ...]] | None:
    """The operands of the product that ``scores`` is made of, and what is done to it; None where that is no chain."""
    steps: list[Step] = []
    while (name := op_name(values.get(scores))) in _STEPS:
        a, b = values[scores].args
        inner, other = (a, b) if a in values else (b, a)
        operand = _operand(other, given)
        if inner not in values or operand is None or shape_of(inner) != shape_of(scores):
            return None
        steps.append(Step(name, operand, inner is b))
        scores = inner
    product = _arguments(values, scores, "relax.matmul")
    return ((product[0], product[1]), tuple(reversed(steps))) if product else None


def _operand(expr: Expr, given: tuple[Var, ...]) -> Var | float | None:
    if isinstance(expr, tvm.ir.Constant):
        return float(expr.value.numpy()) if not shape_of(expr) and dtype_of(expr) == "float32" else None
    return expr if isinstance(expr, relax.Var) and expr in given and dtype_of(expr) == "float32" else None
