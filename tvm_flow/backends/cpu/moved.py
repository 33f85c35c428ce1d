"""What a kernel does to elements on their way: moves, which are views, and elementwise steps.

Followed from a parameter to an operand of an attention (`tvm_flow.backends.cpu.operand_rows`), and from its product to
the kernel's output (`written_of`). Each step keeps the view by which it reads its own operand where the elements are at
the other end.
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

Move = Callable[[View], View | None]
STEPS = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide"}
TO_CODES = {"relax.round", "relax.clip", "relax.astype"}
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

    def seen(self, move: Move) -> Step | None:
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

    def seen(self, _move: Move) -> ToCodes:
        """The same, wherever elements go."""
        return self


@dataclass(frozen=True)
class Written:
    """Where elements [.., M, E] go in an output of ``shape``, and what is done to each before, in order."""

    shape: tuple[int, ...]
    dtype: str
    view: View
    steps: tuple[Step | ToCodes, ...] = ()


def move_of(call: Expr) -> Move | None:
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


def _back(call: Expr) -> Move | None:
    """The inverse of `move_of`, of what moves all elements."""
    name = op_name(call)
    if name == "relax.reshape":
        shape = shape_of(call.args[0])
        return lambda view: view.reshaped(shape)
    if name == "relax.permute_dims":
        axes = [int(axis) for axis in np.argsort(_axes(call))]
        return lambda view: view.permuted(axes)
    return None


def is_product(_values: Values, call: Expr) -> bool:
    """Whether ``call`` is what the elements of an attention in float come from."""
    return op_name(call) == "relax.matmul"


def written_of(
    values: Values, given: tuple[Var, ...], var: Var, begins: Callable[[Values, Expr], bool] = is_product
) -> tuple[Var, Written] | None:
    """The first variable with a call that ``begins``, of which ``var`` is made by moves and steps, and these."""
    shape, dtype, view = shape_of(var), dtype_of(var), whole(shape_of(var))
    steps: list[Step | ToCodes] = []
    while (call := values.get(var)) is not None and not begins(values, call):
        name = op_name(call)
        if name in TO_CODES:
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
    operand = operand_of(other, given)
    if operand is None or not isinstance(inner, relax.Var) or shape_of(inner) != shape_of(call):
        return None
    view = None if isinstance(operand, float) else whole(shape_of(operand)).spread(shape_of(call))
    return inner, Step(name, operand, inner is b, view)


def steps_before(values: Values, given: tuple[Var, ...], var: Var) -> tuple[Var, tuple[Step, ...]] | None:
    """What ``var`` is made of by steps alone, and these in order; None where one of them is no `step_of`."""
    steps: list[Step] = []
    while op_name(values.get(var)) in STEPS and dtype_of(var) == "float32":
        found = step_of(values, given, values[var])
        if found is None:
            return None
        var, step = found
        steps.append(step)
    return var, tuple(reversed(steps))


def arguments_of(values: Values, var: Expr | None, operator: str) -> tuple[Expr, ...] | None:
    """Of the call that ``var`` stands for, where it is one of ``operator``."""
    call = values.get(var) if isinstance(var, relax.Var) else None
    return tuple(call.args) if call is not None and op_name(call) == operator else None


def along_rows(values: Values, var: Expr | None, operator: str) -> Var | None:
    """What ``var`` is ``operator`` of, where it runs along the last axis and keeps it."""
    arguments = arguments_of(values, var, operator)
    if not arguments:
        return None
    attributes, last = values[var].attrs, len(shape_of(arguments[0])) - 1
    axes = [int(axis) % (last + 1) for axis in attributes.axis or ()]
    return arguments[0] if axes == [last] and attributes.keepdims else None


def operand_of(expr: Expr, given: tuple[Var, ...]) -> Var | float | None:
    """What a step may read: a float32 parameter or number."""
    if isinstance(expr, tvm.ir.Constant):
        return float(expr.value.numpy()) if not shape_of(expr) and dtype_of(expr) == "float32" else None
    return expr if isinstance(expr, relax.Var) and expr in given and dtype_of(expr) == "float32" else None
