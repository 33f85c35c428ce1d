"""Which parameter an operand of an attention is made of, and what is done on the way, by element and by row.

    x_d / sqrt(sum_d x_d^2 / D + eps)                   `Normed`: a row is the D channels of a token in a head
    x_d cos_d + x_e sin_d, e = (d + D / 2) mod D        `Rotated`: rope by two tables, the signs in the second

A kernel that reads an operand row by row computes both as it reads: nothing else of the tensor is in them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm_flow.backends.cpu.moved import (
    TO_CODES,
    Move,
    Step,
    ToCodes,
    Values,
    along_rows,
    arguments_of,
    move_of,
    operand_of,
    step_of,
)
from tvm_flow.backends.cpu.views import View, whole
from tvm_flow.graph.lifted import op_name, shape_of
from tvm_flow.graph.types import Expr, Var


@dataclass(frozen=True)
class Normed:
    """Each element over the root of its row's sum of squares over ``count``, to which ``eps`` is added.

    ``channel``: of which of ``width`` channels an element is, as a view of 0 to D - 1.
    """

    count: float
    eps: Step
    channel: View
    width: int

    def seen(self, move: Move) -> Normed | None:
        """The same on elements that are moved; None where the row is no view then."""
        eps, channel = self.eps.seen(move), move(self.channel)
        return None if eps is None or channel is None else replace(self, eps=eps, channel=channel)


@dataclass(frozen=True)
class Rotated:
    """Each element times ``cos`` and the one half a row away times ``sin``; ``channel``, ``width`` as in `Normed`."""

    cos: Step
    sin: Step
    channel: View
    width: int

    def seen(self, move: Move) -> Rotated | None:
        """The same on elements that are moved; None where the row or a table is no view then."""
        cos, sin, channel = self.cos.seen(move), self.sin.seen(move), move(self.channel)
        return None if cos is None or sin is None or channel is None else Rotated(cos, sin, channel, self.width)


RowStep = Normed | Rotated


@dataclass(frozen=True)
class Read:
    """Elements of the parameter ``source``, and what is done to each, in order."""

    source: Var
    view: View
    steps: tuple[Step | RowStep | ToCodes, ...] = ()

    @property
    def to_codes(self) -> tuple[ToCodes, ...]:
        """Those that round, cut and cast."""
        return tuple(step for step in self.steps if isinstance(step, ToCodes))

    @property
    def before_codes(self) -> tuple[Step | RowStep, ...]:
        """All others."""
        return tuple(step for step in self.steps if not isinstance(step, ToCodes))

    @property
    def by_row(self) -> bool:
        """Whether an element is not made of itself alone."""
        return any(isinstance(step, RowStep) for step in self.steps)

    def has_rows_along(self, axis: int) -> bool:
        """Whether ``axis`` of the view, from the last, has all of the row that an element is made with."""
        alone = [0] * len(self.view.shape)
        alone[axis] = 1
        row = View(self.view.shape, tuple(alone)), self.view.shape[axis]
        return all((step.channel, step.width) == row for step in self.steps if isinstance(step, RowStep))


def read_of(values: Values, given: tuple[Var, ...], var: Var) -> Read | None:
    """What ``var`` is of a parameter, where nothing but moves and steps lies between."""
    if var in given:
        return Read(var, whole(shape_of(var)))
    call = values.get(var)
    if call is None or not op_name(call):
        return None
    if (move := move_of(call)) is not None:
        return _moved(read_of(values, given, call.args[0]), move)
    if op_name(call) in TO_CODES:
        inner = read_of(values, given, call.args[0])
        return None if inner is None else replace(inner, steps=(*inner.steps, ToCodes(op_name(call), call)))
    found = _normed(values, given, call) or _rotated(values, given, call) or step_of(values, given, call)
    before = None if found is None else read_of(values, given, found[0])
    return None if found is None or before is None else replace(before, steps=(*before.steps, found[1]))


def _moved(before: Read | None, move: Move) -> Read | None:
    view = None if before is None else move(before.view)
    steps = [] if before is None else [step.seen(move) for step in before.steps]
    kept = tuple(step for step in steps if step is not None)
    return None if before is None or view is None or len(kept) < len(steps) else Read(before.source, view, kept)


def _channels(call: Expr) -> View:
    shape = shape_of(call)
    return View(shape, (*[0] * (len(shape) - 1), 1))


def _normed(values: Values, given: tuple[Var, ...], call: Expr) -> tuple[Var, Normed] | None:
    """What ``call`` is the `Normed` of, and that."""
    if op_name(call) != "relax.divide":
        return None
    x, root = call.args
    under = arguments_of(values, root, "relax.sqrt")
    added = step_of(values, given, values[under[0]]) if under and under[0] in values else None
    mean = arguments_of(values, added[0], "relax.divide") if added else None
    squares = along_rows(values, mean[0], "relax.sum") if mean else None
    factors = arguments_of(values, squares, "relax.multiply") if squares is not None else None
    if added is None or mean is None or not factors or not all(factor.same_as(x) for factor in factors):
        return None
    eps, count = added[1], operand_of(mean[1], given)
    if eps.operator != "relax.add" or not isinstance(count, float):
        return None
    if eps.view is not None:
        eps = replace(eps, view=whole(shape_of(eps.operand)).spread(shape_of(x)))
    return x, Normed(count, eps, _channels(call), shape_of(call)[-1])


def _rotated(values: Values, given: tuple[Var, ...], call: Expr) -> tuple[Var, Rotated] | None:
    """What ``call`` is the `Rotated` of, and that."""
    if op_name(call) != "relax.add":
        return None
    sides = [step_of(values, given, values[arg]) for arg in call.args if arg in values]
    if len(sides) < 2 or sides[0] is None or sides[1] is None:
        return None
    (x, cos), (swapped, sin) = sides[0], sides[1]
    parts = arguments_of(values, swapped, "relax.concat")
    if not parts or {cos.operator, sin.operator} != {"relax.multiply"}:
        return None
    last, width = len(shape_of(x)) - 1, shape_of(x)[-1]
    halves = [whole(shape_of(x)).cut(last, start, width // 2, 1) for start in (width // 2, 0)]
    if int(values[swapped].attrs.axis) % (last + 1) != last or width % 2:
        return None
    if [_cut_of(values, x, part) for part in parts[0].fields] != halves:
        return None
    return x, Rotated(cos, sin, _channels(call), width)


def _cut_of(values: Values, x: Var, part: Expr) -> View | None:
    """How ``part`` lies in ``x``, where it is cut from that."""
    arguments = arguments_of(values, part, "relax.strided_slice")
    move = move_of(values[part]) if arguments and arguments[0].same_as(x) else None
    return None if move is None else move(whole(shape_of(x)))
