"""Kernels that are decided before the rest of a graph is cut up.

Epilogue: what follows an integer product [M, N] elementwise, on [M, N], is computed before the sums leave the core. It
is followed as far as one value still stands for all of it: the last binding whose predecessors nobody else reads.

Attention: softmax(A + mask) V where A is a float product. Its scores exist for a few rows at a time only.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from tvm import relax

from tvm_flow.graph.lifted import dtype_of, op_name, shape_of
from tvm_flow.lower.expansion import MOST_COPIES, reads

PRODUCT = "relax.matmul"
ELEMENTWISE = {
    *("relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.maximum", "relax.sqrt", "relax.exp"),
    *("relax.minimum", "relax.round", "relax.clip", "relax.astype"),
}
SOFTMAX = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.max", "relax.exp", "relax.sum"}

Binding = tuple[Any, Any]


def clusters(bindings: list[Binding], results: list[Any], early: frozenset[Any] = frozenset()) -> dict[Any, Any]:
    """The last variable of its kernel, for every variable of an epilogue or an attention.

    ``bindings`` are the graph's, in order and without aliases; ``results`` are the variables that the graph returns.
    No kernel holds variables of ``early`` and others.
    """
    readers = _readers(bindings, results)
    last: dict[Any, Any] = {}
    for side in (True, False):
        last.update(_clusters_of([binding for binding in bindings if (binding[0] in early) is side], readers))
    return last


def _clusters_of(bindings: list[Binding], readers: dict[Any, set[Any]]) -> dict[Any, Any]:
    values = dict(bindings)
    place = {var: position for position, var in enumerate(values)}
    last: dict[Any, Any] = {}
    for var, call in bindings:
        if op_name(call) != PRODUCT or var not in readers:
            continue
        if dtype_of(call.args[0]) == "int8":
            members = _epilogue(var, bindings, place, readers, last) if len(shape_of(var)) == 2 else []
        else:
            members = sorted(_attention(var, values, readers), key=place.__getitem__)
        last.update(dict.fromkeys(members, members[-1]) if members else {})
    return last


def tensor_args(call: Any) -> Iterator[Any]:
    """Variables that ``call`` reads, those inside a tuple argument (concat) included."""
    for arg in call.args:
        for part in arg.fields if isinstance(arg, relax.Tuple) else [arg]:
            if isinstance(part, relax.Var):
                yield part


def _readers(bindings: list[Binding], results: list[Any]) -> dict[Any, set[Any]]:
    """Who reads each live variable; the results are read by None."""
    readers: dict[Any, set[Any]] = {result: {None} for result in results}
    for var, call in reversed(bindings):
        if var in readers:
            for arg in tensor_args(call):
                readers.setdefault(arg, set()).add(var)
    return readers


def _epilogue(
    product: Any, bindings: list[Binding], place: dict[Any, int], readers: dict[Any, set[Any]], taken: dict[Any, Any]
) -> list[Any]:
    """``product`` and its epilogue, in order. A reader that cannot join is the end: nothing later stands for all."""
    members, whole, sizes = [product], 1, {product: 1}
    open_ends = {product: set(readers[product])}
    queue = sorted(place[reader] for reader in readers[product] if reader in place)
    while queue:
        var, call = bindings[heapq.heappop(queue)]
        if var in open_ends:
            continue
        if var in taken or op_name(call) not in ELEMENTWISE or shape_of(var) != shape_of(product):
            break
        sizes[var] = 1 + reads(call) * sum(sizes.get(arg, 0) for arg in tensor_args(call))
        if sizes[var] > MOST_COPIES:
            break
        members.append(var)
        for ends in open_ends.values():
            ends.discard(var)
        open_ends[var] = set(readers[var])
        for reader in readers[var] & place.keys():
            heapq.heappush(queue, place[reader])
        if not any(ends for member, ends in open_ends.items() if member is not var):
            whole = len(members)
    return members[:whole]


def _attention(product: Any, values: dict[Any, Any], readers: dict[Any, set[Any]]) -> set[Any]:
    """Everything from the scores to ``product``; empty when ``product`` is no attention."""
    weights = values[product].args[0]
    if len(shape_of(weights)) < 3 or weights not in values:
        return set()
    scores, pending, members = shape_of(weights), [weights], {product}
    while pending:
        var = pending.pop()
        if var in members:
            continue
        members.add(var)
        name = op_name(values[var])
        if name not in SOFTMAX and not (name == PRODUCT and shape_of(var) == scores):
            return set()
        if name != PRODUCT:
            rows = (scores, (*scores[:-1], 1))
            pending += [arg for arg in tensor_args(values[var]) if arg in values and shape_of(arg) in rows]
    names = [op_name(values[var]) for var in members]
    inside = all(readers[var] <= members for var in members if var is not product)
    if not inside or names.count(PRODUCT) != 2 or "relax.exp" not in names:
        return set()
    return members
