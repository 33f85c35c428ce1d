"""What became of each node of an ONNX graph: computed on integers, in float, or not at all, and why.

The passes know variables of TVM, not nodes. So the graph is imported once more with every node's output as an output
of its own: that changes nothing of what the integer pass decides, and says which variable a node's output is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import onnx
from onnx import TensorProto
from tvm import relax

from tvm_flow.graph.lifted import LiftedGraph, bindings_of, dtype_of
from tvm_flow.graph.names import unquoted
from tvm_flow.importer.initializers import SplitGraph
from tvm_flow.importer.integer import to_integer
from tvm_flow.importer.legal import require_legal, value_info
from tvm_flow.importer.load import import_split
from tvm_flow.importer.rewrite import written_out
from tvm_flow.importer.scope import Accumulator, Codes, Unsigned

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
_MOVES = frozenset({"QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze"})
_FOLLOWED = frozenset({TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32})
"""Types that kernels compute; int64 and bool say shapes, places and conditions, which are settled at import."""


class Runs(StrEnum):
    """How a node is computed."""

    INTEGER = "integer"
    FLOAT = "float"
    CONSTANT = "constant"
    UNUSED = "unused"


@dataclass(frozen=True)
class NodeRow:
    """A node of the graph, named by its name or else its first output, and what became of it."""

    name: str
    operator: str
    runs: Runs
    why: str
    weights: frozenset[str] = frozenset()
    """Initializers that a product multiplies by, through what only moves or quantizes them; the flow's names."""


def node_rows(split: SplitGraph) -> tuple[NodeRow, ...]:
    """A row for each node of the graph, in its order; raises ImportGraphError as the import does."""
    return _Probe(split, require_legal(split.structure)).rows()


@dataclass
class _Probe:
    split: SplitGraph
    legal: onnx.ModelProto
    meanings: dict[Any, Any] = field(default_factory=dict)
    reasons: dict[Any, tuple[str, ...]] = field(default_factory=dict)
    bound: dict[Any, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    readers: dict[str, list[onnx.NodeProto]] = field(default_factory=lambda: defaultdict(list))

    def rows(self) -> tuple[NodeRow, ...]:
        self._follow()
        live, found = _live(self.legal.graph), dict[str, NodeRow]()
        rows = []
        for node in self.legal.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
        for node in reversed(self.legal.graph.node):
            row = self._row(node, live, found)
            found |= dict.fromkeys(node.output, row)
            rows.append(row)
        return tuple(reversed(rows))

    def _follow(self) -> None:
        names = [name for name in _outputs(self.legal) if _kind(self.legal, name) in _FOLLOWED]
        model = written_out(self.legal)
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        del probe.graph.output[:]
        probe.graph.output.extend(value_info(self.legal, name) for name in names)
        graph: LiftedGraph = import_split(replace(self.split, structure=probe))

        def note(var: Any, meaning: Any, why: tuple[str, ...]) -> None:
            self.meanings[var], self.reasons[var] = meaning, why

        to_integer(graph, note)
        main = graph.module["main"]
        self.bound = dict(bindings_of(main))
        result = self.bound.get(main.body.body, main.body.body)
        fields = result.fields if isinstance(result, relax.Tuple) else [main.body.body]
        self.variables = dict(zip(names, (self._unaliased(each) for each in fields), strict=True))

    def _unaliased(self, expr: Any) -> Any:
        while isinstance(self.bound.get(expr), relax.Var):
            expr = self.bound[expr]
        return expr

    def _row(self, node: onnx.NodeProto, live: frozenset[str], found: Mapping[str, NodeRow]) -> NodeRow:
        name = unquoted(node.name or node.output[0])
        runs, why = self._became(node, live, found)
        weights = self._weights(node) if node.op_type in PRODUCTS else frozenset()
        return NodeRow(name, node.op_type, runs, why, weights)

    def _became(self, node: onnx.NodeProto, live: frozenset[str], found: Mapping[str, NodeRow]) -> tuple[Runs, str]:
        if not live & set(node.output):
            return Runs.UNUSED, "no output of the graph depends on it"
        output = next(name for name in node.output if name in live)
        if output not in self.variables:
            return Runs.CONSTANT, "shapes, places and conditions are settled at import"
        variable = self.variables[output]
        meaning = self.meanings.get(variable)
        if isinstance(meaning, Codes) and node.op_type == "DequantizeLinear":
            return self._dequantized(output, found)
        if isinstance(meaning, Accumulator):
            return Runs.INTEGER, "sums of int8 codes in int32"
        if isinstance(meaning, Codes | Unsigned) and node.op_type != "QuantizeLinear":
            return Runs.INTEGER, "moves codes"
        if node.op_type == "QuantizeLinear":
            return Runs.INTEGER, "rounded to 8 bits by a fixed scale"
        if meaning is None:
            return Runs.CONSTANT, "its value is known"
        if isinstance(meaning, relax.Var) and dtype_of(meaning) != "float32":
            return Runs.INTEGER, f"computed on {dtype_of(meaning)}"
        return Runs.FLOAT, self._why_float(node, variable)

    def _dequantized(self, output: str, found: Mapping[str, NodeRow]) -> tuple[Runs, str]:
        readers = self.readers[output]
        in_float = [found[n.output[0]] for n in readers if found[n.output[0]].runs is Runs.FLOAT]
        if in_float:
            return Runs.FLOAT, f"read by {in_float[0].operator} {in_float[0].name!r}, which computes in float"
        if any(value.name == output for value in self.legal.graph.output):
            return Runs.FLOAT, "an output of the graph"
        if any(node.op_type == "QuantizeLinear" for node in readers):
            return Runs.FLOAT, "quantized again by another node"
        return Runs.INTEGER, "its codes are read as they are"

    def _why_float(self, node: onnx.NodeProto, variable: Any) -> str:
        if reasons := [reason for each in self._own(variable) for reason in self.reasons.get(each, ())]:
            words = (reason.partition(": ")[2] or reason for reason in reasons)
            return "; ".join(
                dict.fromkeys(re.sub(r"float operator relax\.(\S+) of \S+", r"\1, in float", w) for w in words)
            )
        if node.op_type in PRODUCTS:
            return "neither operand is quantized"
        return f"{node.op_type} has a float meaning only"

    def _own(self, variable: Any) -> Iterator[Any]:
        """The variables of a node whose output is ``variable``: back to the outputs of other nodes."""
        others, pending = set(self.variables.values()) - {variable}, [variable]
        while pending:
            var = pending.pop()
            if var in others or var not in self.bound:
                continue
            yield var
            pending += [arg for arg in getattr(self.bound[var], "args", ()) if isinstance(arg, relax.Var)]

    def _weights(self, node: onnx.NodeProto) -> frozenset[str]:
        makers = {output: other for other in self.legal.graph.node for output in other.output}
        known = {tensor.name for tensor in self.legal.graph.initializer} | self.split.values.keys()
        found, pending = set(), list(node.input[:2])
        while pending:
            name = pending.pop()
            if name in known:
                found.add(name)
            elif name in makers and makers[name].op_type in _MOVES:
                pending.append(makers[name].input[0])
        return frozenset(found)


def _outputs(model: onnx.ModelProto) -> Iterator[str]:
    """Outputs of nodes that something reads, once each."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return (name for node in graph.node for name in node.output if name in read)


def _kind(model: onnx.ModelProto, name: str) -> int:
    return int(value_info(model, name).type.tensor_type.elem_type)


def _live(graph: onnx.GraphProto) -> frozenset[str]:
    """Names that an output of the graph depends on."""
    live = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if live & set(node.output):
            live |= set(node.input)
    return frozenset(live - {""})


def counted(rows: Iterable[NodeRow]) -> dict[str, int]:
    """How many nodes of each kind there are."""
    listed = [row.runs for row in rows]
    return {str(kind): listed.count(kind) for kind in Runs}
