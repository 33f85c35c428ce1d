"""One ONNX graph to a canonical integer module; a graph that cannot be imported is refused by the node at fault.

What fails inside TVM's importer or in the passes after it names TVM's operators and variables. So the shortest part of
the graph that fails is looked for, from its first node on: its last node is the one to name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx

from tvm_flow.errors import ImportGraphError, TvmFlowError
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.importer.canonical import canonicalize
from tvm_flow.importer.initializers import SplitGraph
from tvm_flow.importer.integer import to_integer
from tvm_flow.importer.legal import describe, one_line, opset_of, require_legal, value_info
from tvm_flow.importer.load import import_split
from tvm_flow.importer.rewrite import written_out
from tvm_flow.importer.rows import fold_rows


def import_whole(split: SplitGraph, name: str = "graph") -> LiftedGraph:
    """Import the graph that ``split`` took apart; raises ImportGraphError of one line that names ``name`` and node."""
    try:
        checked = replace(split, structure=require_legal(split.structure))
    except ImportGraphError as error:
        raise ImportGraphError(f"{name}: {error}") from error
    try:
        return _imported(checked)
    except Exception as error:
        raise ImportGraphError(f"{name}: {_named(checked, error, _imported)}") from error


def refused_node(split: SplitGraph, error: Exception, lower: Callable[[LiftedGraph], object]) -> str:
    """What is wrong, where ``lower`` raised ``error`` for the graph of ``split``: one line that names the node."""
    checked = replace(split, structure=require_legal(split.structure))
    return _named(checked, error, lambda part: lower(_imported(part)))


def _imported(split: SplitGraph) -> LiftedGraph:
    graph = import_split(replace(split, structure=written_out(split.structure)))
    return fold_rows(canonicalize(to_integer(graph)))


def _reason(error: Exception) -> str:
    """The words of our own errors; what else TVM or a pass raised is of something that they do not know."""
    if isinstance(error, TvmFlowError):
        return one_line(error)
    return (
        "expected an operator with an exact meaning that gives one tensor, got one that the import does not know "
        f"({type(error).__name__}: {one_line(error)}); write it with others"
    )


Attempt = Callable[[SplitGraph], object]


def _named(split: SplitGraph, error: Exception, attempt: Attempt) -> str:
    """What is wrong, and with which node where a part of the graph shows it."""
    nodes = list(split.structure.graph.node)
    low, high, reason = 0, len(nodes) + 1, _reason(error)
    while high - low > 1:  # the first `low` nodes can be imported, the first `high` cannot
        middle = (low + high) // 2
        failure = _failure(split, middle, attempt)
        low, high = (middle, high) if failure is None else (low, middle)
        reason = _reason(failure) if failure is not None else reason
    if high > len(nodes):
        return reason
    return f"{describe(nodes[high - 1], opset_of(split.structure))}: {reason}"


def _failure(split: SplitGraph, count: int, attempt: Attempt) -> Exception | None:
    """What ``attempt`` raises of the first ``count`` nodes."""
    part = onnx.ModelProto()
    part.CopyFrom(split.structure)
    last = part.graph.node[count - 1]
    outputs = [value_info(split.structure, output) for output in last.output if output]
    del part.graph.node[count:]
    del part.graph.output[:]
    part.graph.output.extend(outputs)
    try:
        attempt(replace(split, structure=part))
    except Exception as error:
        return error
    return None
