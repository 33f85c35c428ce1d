"""What a kernel does to elements on their way: moves, which are views, and elementwise steps.

Followed from a parameter to an operand of an attention (`read_of`), and from its product to the kernel's output
(`written_of`). Each step keeps the view by which it reads its own operand where the elements are at the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import relax

from tvm_flow.backends.cpu.views import View, whole
from tvm_flow.graph.lifted import dtype_of, op_name, shape_of
from tvm_flow.graph.types import Expr, Var

STEPS = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide"}
_TO_CODES = {"relax.round", "relax.clip", "relax.astype"}
Values = Mapping[Var, Expr]


@dataclass(frozen=True)
class Step:
    """``value operator operand``, elementwise with broadcasting; the operand comes first where ``first`` is set.

    An operand is a parameter of the kernel, read as ``view``, or a number.
    """

    operator: str
    operand: Var | float
    first: bool
    view: View | None = None

    def seen(self, move: Callable[[View], View | None]) -> Step | None:
        """The same step on elements that are moved; None where the operand is no view then."""
        if self.view is None:
            return self
        view = move(self.view)
        return None if view is None else replace(self, view=view)


@dataclass(frozen=True)
class ToCodes:
    """``call``, of the operator round, clip or astype, on each element."""

    operator: str
    call: Expr

    def seen(self, _move: Callable[[View], View | None]) -> ToCodes:
        """The same, wherever elements go."""
        return self


@dataclass(frozen=True)
class Read:
    """Elements of the parameter ``source``, and what is done to each, in order."""

    source: Var
    view: View
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Written:
    """Where elements [.., M, E] go in an output of ``shape``, and what is done to each before, in order."""

    shape: tuple[int, ...]
    dtype: str
    view: View
    steps: tuple[Step | ToCodes, ...] = ()


def _move(call: Expr) -> Callable[[View], View | None] | None:
    """What ``call`` does to a view of its argument, where it only moves elements."""
    shape, name = shape_of(call), op_name(call)
    if name == "relax.reshape":
        return lambda view: view.reshaped(shape)
    if name == "relax.permute_dims":
        axes = _axes(call)
        return lambda view: view.permuted(axes)
    if name == "relax.strided_slice":
        return lambda view: _cut(view, call)
    return None


def _axes(call: Expr) -> list[int]:
    rank = len(shape_of(call))
    return [int(axis) % rank for axis in call.attrs.axes or reversed(range(rank))]


def _cut(view: View, call: Expr) -> View | None:
    axes, begin, end, *steps = ([int(getattr(v, "value", v)) for v in part.fields] for part in call.args[1:5])
    for axis, start, stop, step in zip(axes, begin, end, steps[0] if steps else [1] * len(axes), strict=True):
        if step < 1:
            return None
        found = range(view.shape[axis])[start:stop:step]
        view = view.cut(axis % len(view.shape), found.start, len(found), step)
    return view


def _back(call: Expr) -> Callable[[View], View | None] | None:
    """The inverse of `_move`, of what moves all elements."""
    name = op_name(call)
    if name == "relax.reshape":
        shape = shape_of(call.args[0])
        return lambda view: view.reshaped(shape)
    if name == "relax.permute_dims":
        axes = [int(axis) for axis in np.argsort(_axes(call))]
        return lambda view: view.permuted(axes)
    return None


def read_of(values: Values, given: tuple[Var, ...], var: Var) -> Read | None:
    """What ``var`` is of a parameter, where nothing but moves and steps lies between."""
    if var in given:
        return Read(var, whole(shape_of(var)))
    call = values.get(var)
    if call is None or not op_name(call):
        return None
    if (move := _move(call)) is not None:
        before = read_of(values, given, call.args[0])
        view = None if before is None else move(before.view)
        steps = [] if before is None else [step.seen(move) for step in before.steps]
        kept = tuple(step for step in steps if step is not None)
        return None if before is None or view is None or len(kept) < len(steps) else Read(before.source, view, kept)
    found = step_of(values, given, call)
    before = None if found is None else read_of(values, given, found[0])
    return None if found is None or before is None else replace(before, steps=(*before.steps, found[1]))


def written_of(values: Values, given: tuple[Var, ...], var: Var) -> tuple[Var, Written] | None:
    """What product ``var`` is made of by moves and steps, and these."""
    shape, dtype, view = shape_of(var), dtype_of(var), whole(shape_of(var))
    steps: list[Step | ToCodes] = []
    while (call := values.get(var)) is not None and (name := op_name(call)) != "relax.matmul":
        if name in _TO_CODES:
            steps.append(ToCodes(name, call))
            var = call.args[0]
        elif name and (back := _back(call)) is not None:
            moved = [step.seen(back) for step in steps]
            seen, steps = back(view), [step for step in moved if step is not None]
            if seen is None or len(steps) < len(moved):
                return None
            view, var = seen, call.args[0]
        elif name and (found := step_of(values, given, call)) is not None:
            steps.append(found[1])
            var = found[0]
        else:
            return None
    return None if call is None else (var, Written(shape, dtype, view, tuple(reversed(steps))))


def step_of(values: Values, given: tuple[Var, ...], call: Expr) -> tuple[Var, Step] | None:
    """What ``call`` is a step on, and the step; None where it is none, or makes more elements than it is given."""
    name = op_name(call)
    if name not in STEPS or dtype_of(call) != "float32":
        return None
    a, b = call.args
    inner, other = (a, b) if a in values or (b not in values and shape_of(a) == shape_of(call)) else (b, a)
    operand = _operand(other, given)
    if operand is None or not isinstance(inner, relax.Var) or shape_of(inner) != shape_of(call):
        return None
    view = None if isinstance(operand, float) else whole(shape_of(operand)).spread(shape_of(call))
    return inner, Step(name, operand, inner is b, view)


def _operand(expr: Expr, given: tuple[Var, ...]) -> Var | float | None:
    if isinstance(expr, tvm.ir.Constant):
        return float(expr.value.numpy()) if not shape_of(expr) and dtype_of(expr) == "float32" else None
    return expr if isinstance(expr, relax.Var) and expr in given and dtype_of(expr) == "float32" else None
