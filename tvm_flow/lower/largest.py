"""The maximum over an axis as `tvm_flow.lower.extremes` has it, but in a softmax, which does not need it.

In softmax(x) = exp(x - max(x)) / sum(exp(x - max(x))) a NaN of a row is in its own difference, so in the sum, and so in
all of the row, whatever the maximum is; nor does it matter that TVM's own is the least finite float for a row of
negative infinities: 0 / 0 is NaN as is the difference of infinities.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_flow.graph.lifted import bindings_of, op_name, shape_of
from tvm_flow.graph.types import Expr, Relax, Var
from tvm_flow.lower.extremes import te_largest


@tvm.transform.module_pass(opt_level=0, name="LargestOrNan")  # type: ignore[untyped-decorator]
def largest_or_nan(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
    """Every maximum over an axis that is no softmax's, as a TIR function."""
    changed = _Mutator(module)
    for place, function in module.functions_items():
        if isinstance(function, relax.Function):
            changed.plain = softmax_peaks(function)
            changed.builder_.update_func(place, changed.visit_expr(function))
    return changed.builder_.get()


@mutator
class _Mutator(PyExprMutator):  # type: ignore[misc]  # TVM has no types
    plain: frozenset[Expr] = frozenset()

    def visit_call_(self, call: Expr) -> Expr:
        call = super().visit_call_(call)
        if op_name(call) != "relax.max" or call in self.plain:
            return call
        x, rank = call.args[0], len(shape_of(call.args[0]))
        axes = range(rank) if call.attrs.axis is None else sorted(int(axis) % rank for axis in call.attrs.axis)
        return self.builder_.call_te(te_largest, x, list(axes), bool(call.attrs.keepdims), primfunc_name_hint="max")


def softmax_peaks(function: Relax) -> frozenset[Expr]:
    """The maxima of ``function`` that it reads in softmax alone."""
    values = dict(bindings_of(function))
    readers: dict[Var, list[Var]] = defaultdict(list)
    for var, call in values.items():
        for arg in getattr(call, "args", [call]):
            readers[arg].append(var)

    def reads(var: Var, *names: str) -> list[Var]:
        """Who reads ``var``; nobody when one of them is none of ``names``, or ``var`` is the function's result."""
        found = readers[var]
        right = all(op_name(values[reader]) in names for reader in found) and var is not function.body.body
        return found if right else []

    def is_weight(var: Var) -> bool:
        found = reads(var, "relax.sum", "relax.divide")
        sums = [reader for reader in found if op_name(values[reader]) == "relax.sum"]
        divided = [reader for reader in found if reader not in sums]
        shares = all(values[reader].args[0].same_as(var) and values[reader].args[1] in sums for reader in divided)
        return bool(sums) and shares and all(set(reads(total, "relax.divide")) <= set(divided) for total in sums)

    def is_peak(var: Var, call: Expr) -> bool:
        below = reads(var, "relax.subtract")
        return bool(below) and all(
            values[each].args[0].same_as(call.args[0])
            and bool(weights := reads(each, "relax.exp"))
            and all(map(is_weight, weights))
            for each in below
        )

    return frozenset(call for var, call in values.items() if op_name(call) == "relax.max" and is_peak(var, call))
