"""Cut a canonical step graph into kernels.

A kernel is a private Relax function with one output. An integer product ends in its epilogue and an attention is one
kernel (see `tvm_flow.lower.clusters`); other matrix products stand alone. Every other operator joins the kernel of its
consumer when all its consumers are in that one kernel, with three exceptions: a row reduction does not join a kernel in
which elements change their place further on, because its row would not be the row of the output loop; what a row
reduction reads is not concatenated in its kernel, because TVM would make only a part of what the concatenation reads;
and a kernel ends before it becomes too large (see `tvm_flow.lower.expansion`).
Structurally equal kernels are one function, called several times.

What depends on the prompt alone (see `tvm_flow.lower.prologue`) is cut from the rest and comes first.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
from tvm import relax

from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import BlockBuilder, LiftedGraph, bindings_of, call_with, op_name, shape_of
from tvm_flow.graph.names import made_up
from tvm_flow.graph.program import KernelCall, Program, TensorSpec
from tvm_flow.lower.clusters import clusters, tensor_args
from tvm_flow.lower.expansion import MOST_COPIES, reads
from tvm_flow.lower.prologue import prologue_variables
from tvm_flow.numerics.operators import INTEGERS

ANCHORS = {"relax.matmul", "relax.nn.conv2d", INTEGERS}
REDUCTIONS = {"relax.sum", "relax.max", "relax.min", "relax.mean", "relax.prod"}
PLACE_CHANGING = {"relax.reshape", "relax.permute_dims", "relax.squeeze", "relax.expand_dims", "relax.flatten"}
PLACE_CHANGING |= {"relax.nn.pad", "relax.broadcast_to"}
CONDITIONAL = {"relax.concat", "relax.nn.pad"}
"""Operators that read one of several places, or none."""
_log = logging.getLogger(__name__)


@dataclass
class _Group:
    """Bindings of one kernel in reverse order, and whether elements change place inside it.

    ``copies`` says how often each value read in it is written out (see `tvm_flow.lower.expansion`), ``size`` how many
    operations that makes.
    """

    members: list[tuple[Any, Any]] = field(default_factory=list)
    anchor: bool = False
    moves: bool = False
    reduces: bool = False
    prologue: bool = False
    copies: dict[Any, int] = field(default_factory=lambda: defaultdict(int))
    size: int = 0

    def add(self, var: Any, call: Any) -> None:
        """One more binding, before those that are there."""
        self.members.append((var, call))
        self.moves |= op_name(call) in PLACE_CHANGING
        self.reduces |= op_name(call) in REDUCTIONS
        own = self.copies[var] or 1
        self.size += own
        for arg in tensor_args(call):
            self.copies[arg] += 1 if op_name(call) in REDUCTIONS else own * reads(call)

    def fits(self, var: Any) -> bool:
        """True when ``var`` may join without making the kernel too large."""
        return self.size + self.copies[var] <= MOST_COPIES


def partition(graph: LiftedGraph) -> Program:
    """Group the bindings of ``graph`` and name the kernels; raises BuildError for a graph with several outputs."""
    main = graph.module["main"]
    if not isinstance(main.body.body.ty, relax.TensorType):
        raise BuildError(
            f"step graph: expected one output tensor, got {main.body.body.ty}; export one output per graph"
        )
    bindings, results = _straight(main)
    inputs = list(main.params)[: len(graph.inputs)]
    early = prologue_variables(inputs, ((v, tensor_args(e)) for v, e in bindings), results[0])
    return _emit(graph, _assign(bindings, results, early), results)


def partition_whole(graph: LiftedGraph) -> Program:
    """`partition` of a graph that is no step: it has no prologue, and any number of outputs."""
    bindings, results = _straight(graph.module["main"])
    return _emit(graph, _assign(bindings, results, frozenset()), results)


def _straight(main: Any) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Bindings of operators, and what the function returns, all without aliases."""
    other = {v: e for v, e in bindings_of(main) if isinstance(e, relax.Var | relax.Tuple)}
    bindings = [(v, e) for v, e in bindings_of(main) if v not in other]

    def named(expr: Any) -> Any:
        while expr in other:
            expr = other[expr]
        return expr

    result = named(main.body.body)
    return bindings, [named(field) for field in result.fields] if isinstance(result, relax.Tuple) else [result]


def _assign(bindings: list[tuple[Any, Any]], results: list[Any], early: frozenset[Any]) -> list[_Group]:
    """Kernels' bindings, none with some of ``early`` and some others; the order among groups is left to the caller."""
    users: dict[Any, set[int]] = defaultdict(set)
    groups: list[_Group] = []
    last = clusters(bindings, results, early)
    home: dict[Any, int] = {}
    for var, call in reversed(bindings):
        readers = users.get(var, set())
        if not readers and var not in results:
            continue
        index = next(iter(readers)) if len(readers) == 1 and var not in results else None
        if var in last:
            index = home.get(last[var])
        elif index is not None and (groups[index].prologue != (var in early) or not _joins(var, call, groups[index])):
            index = None
        if index is None:
            index = len(groups)
            groups.append(_Group(anchor=var in last or op_name(call) in ANCHORS, prologue=var in early))
            home[var] = index
        groups[index].add(var, call)
        for arg in tensor_args(call):
            users[arg].add(index)
    return groups


def _joins(var: Any, call: Any, group: _Group) -> bool:
    if group.anchor or op_name(call) in ANCHORS or not group.fits(var):
        return False
    return not (group.moves and op_name(call) in REDUCTIONS) and not (group.reduces and op_name(call) in CONDITIONAL)


def _emit(graph: LiftedGraph, groups: list[_Group], results: list[Any]) -> Program:
    main = graph.module["main"]
    tensors = {p.name: TensorSpec(shape_of(p), str(p.ty.dtype)) for p in main.params}
    names: dict[Any, str] = {p: p.name for p in main.params}
    kernels: dict[str, Any] = {}
    by_hash: dict[int, list[str]] = defaultdict(list)
    calls: list[KernelCall] = []
    position = {var: i for i, (var, _) in enumerate(bindings_of(main))}
    for group in sorted(groups, key=lambda g: (not g.prologue, position[g.members[0][0]])):
        function, arguments = _function_of(group)
        kernel = intern(function, kernels, by_hash)
        output, _ = group.members[0]
        names[output] = made_up(f"t{len(calls)}", tensors)
        tensors[names[output]] = TensorSpec(shape_of(output), str(output.ty.dtype))
        calls.append(KernelCall(kernel, tuple(names[a] for a in arguments), names[output]))
    early = sum(g.prologue for g in groups)
    _log.info("%d kernels for %d calls, %d of them in the prologue", len(kernels), len(calls), early)
    first, *others = (names[result] for result in results)
    return Program(graph, kernels, tuple(calls), tensors, first, early, tuple(others))


def _function_of(group: _Group) -> tuple[Any, list[Any]]:
    """The kernel as a Relax function of fresh variables, and the arguments of this call of it."""
    local: dict[Any, Any] = {}
    arguments: list[Any] = []
    inside = {v for v, _ in group.members}
    for _, call in reversed(group.members):
        for arg in tensor_args(call):
            if arg not in inside and arg not in local:
                local[arg] = relax.Var(f"p{len(arguments)}", arg.ty)
                arguments.append(arg)
    block = BlockBuilder()
    parameters = [local[a] for a in arguments]
    with block.function("kernel", parameters):
        with block.dataflow():
            for var, call in reversed(group.members):
                local[var] = block.emit(call_with(call, [_replace(a, local) for a in call.args]))
            output = block.emit_output(local[group.members[0][0]])
        block.emit_func_output(output)
    return block.get()["kernel"], arguments


def _replace(arg: Any, local: dict[Any, Any]) -> Any:
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([local.get(f, f) for f in arg.fields])
    return local.get(arg, arg) if isinstance(arg, relax.Var) else arg


def intern(function: Any, kernels: dict[str, Any], by_hash: dict[int, list[str]]) -> str:
    """Name of the kernel equal to ``function``, added when it is new."""
    key = tvm_ffi.structural_hash(function, map_free_vars=True)
    for name in by_hash[key]:
        if tvm_ffi.structural_equal(kernels[name], function, map_free_vars=True):
            return name
    number = len(kernels)
    while any(other.startswith(f"k{number}_") for other in kernels):  # some were merged, and their numbers are free
        number += 1
    name = f"k{number}_{_title(function)}"
    kernels[name] = function
    by_hash[key].append(name)
    return name


def _title(function: Any) -> str:
    """A few operator names, so that a profile can be read."""
    ops = [op_name(value).replace(".", "_") for _, value in bindings_of(function)]
    ops = [name.removeprefix("relax_").removeprefix("tvm_flow_") for name in ops]
    notable = [op for op in ops if op in {"matmul", "exp", "sqrt", "round", "max", "integers"}]
    return "_".join(dict.fromkeys(notable)) or (ops[-1] if ops else "copy")
