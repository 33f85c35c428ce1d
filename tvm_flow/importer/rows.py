"""Products of activations with more than two axes as products of matrices, which have a fast kernel.

    x [.., T, K] times w [K, N]    becomes    [R, K] times [K, N] -> [R, N]        R the product of the leading extents

What leads to such a product and follows it row by row is computed on [R, .] too, so that a normalization stays beside
its rows and an epilogue beside its sums; a reshape, which moves nothing, stands where other operators begin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from tvm import relax
from tvm.relax import op as R

from tvm_flow.graph.lifted import Builder, LiftedGraph, bindings_of, call_with, dtype_of, op_name, shape_of, tensor_var

_ELEMENTWISE = {
    *("relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.maximum", "relax.minimum", "relax.sqrt"),
    *("relax.exp", "relax.round", "relax.clip", "relax.astype"),
}
_REDUCTIONS = {"relax.sum", "relax.max"}


def fold_rows(graph: LiftedGraph) -> LiftedGraph:
    """``graph``, canonical, with every integer product of a constant matrix one of matrices."""
    main = graph.module["main"]
    bindings = list(bindings_of(main))
    chosen = _chosen(bindings, graph)
    if not chosen:
        return graph
    count = len(graph.inputs)
    params = {p: tensor_var(p.name, shape_of(p), dtype_of(p)) for p in main.params}
    inputs = [params[p] for p in main.params[:count]]
    folder = _Folder(Builder(inputs), dict(params))
    block = folder.builder.block
    with block.function("main"):
        with block.dataflow():
            for var, value in bindings:
                folder.add(var, value, chosen)
            output = block.emit_output(folder.plain(main.body.body))
        block.emit_func_output(output, list(params.values()))
    return replace(graph, module=block.get())


def _is_product(call: Any) -> bool:
    if op_name(call) != "relax.matmul":
        return False
    x, w = call.args
    return (dtype_of(x), dtype_of(w)) == ("int8", "int8") and len(shape_of(x)) > 2 and len(shape_of(w)) == 2


def _is_rowwise(call: Any) -> bool:
    """True for an operator that computes each row of its result from the same row of its operands."""
    if op_name(call) in _REDUCTIONS:
        rank = len(shape_of(call.args[0]))
        return bool(call.attrs.keepdims) and [int(a) % rank for a in call.attrs.axis or range(rank)] == [rank - 1]
    return op_name(call) in _ELEMENTWISE


def _chosen(bindings: list[tuple[Any, Any]], graph: LiftedGraph) -> set[Any]:
    """Variables to compute as matrices: those products, and what leads to them row by row."""
    chosen: set[Any] = set()
    for var, call in reversed(bindings):
        if _is_product(call) and call.args[1].name in graph.constants:
            chosen |= {var, call.args[0]}
        elif var in chosen and _is_rowwise(call):
            lead = shape_of(var)[:-1]
            chosen |= {a for a in call.args if isinstance(a, relax.Var) and shape_of(a)[:-1] == lead}
    return chosen


@dataclass
class _Folder:
    """The function under construction: what every old variable is now, as a tensor of its shape and as a matrix."""

    builder: Builder
    tensors: dict[Any, Any]
    matrices: dict[Any, Any] = field(default_factory=dict)

    def add(self, var: Any, value: Any, chosen: set[Any]) -> None:
        """Emit what ``var`` is bound to, as a matrix where it is ``chosen`` or follows one."""
        if isinstance(value, relax.Var):
            for kept in (self.tensors, self.matrices):
                if value in kept:
                    kept[var] = kept[value]
            return
        if isinstance(value, relax.Tuple):  # the graph's outputs
            self.tensors[var] = self.plain(value)
            return
        if _is_product(value) and var in chosen:
            args = [self.matrix(value.args[0]), self.plain(value.args[1])]
        elif not (_is_rowwise(value) and (args := self.operands(var, value, chosen))):
            self.tensors[var] = self.builder.emit(call_with(value, [self.plain(a) for a in value.args]))
            return
        self.matrices[var] = self.builder.emit(call_with(value, args))

    def operands(self, var: Any, call: Any, chosen: set[Any]) -> list[Any]:
        """The arguments of ``call`` for rows; empty when it stays as it is."""
        lead = shape_of(call.args[0] if op_name(call) in _REDUCTIONS else var)[:-1]
        if len(lead) < 2 or not (var in chosen or any(a in self.matrices for a in call.args)):
            return []
        found = []
        for arg in call.args:
            if not isinstance(arg, relax.Var):
                found.append(arg)
            elif shape_of(arg)[:-1] == lead:
                found.append(self.matrix(arg))
            elif prod(shape_of(arg)[:-1]) == 1:
                last = shape_of(arg)[-1:]
                found.append(self.plain(arg) if len(shape_of(arg)) < 2 else self.reshaped(self.plain(arg), last))
            else:
                return []
        return found

    def matrix(self, var: Any) -> Any:
        """``var`` as [R, .]."""
        if var not in self.matrices:
            *lead, last = shape_of(var)
            self.matrices[var] = self.reshaped(self.tensors[var], (prod(lead), last))
        return self.matrices[var]

    def plain(self, expr: Any) -> Any:
        """``expr`` in its own shape."""
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.plain(part) for part in expr.fields])
        if not isinstance(expr, relax.Var):
            return expr
        if expr not in self.tensors:
            self.tensors[expr] = self.reshaped(self.matrices[expr], shape_of(expr))
        return self.tensors[expr]

    def reshaped(self, value: Any, shape: Iterable[int]) -> Any:
        """A reshape of ``value``, emitted."""
        return self.builder.emit(R.reshape(value, list(shape)))
