"""THE passes, in their order: from an ONNX file to the code of every kernel.

    import        ONNX to Relax, every constant a parameter              of a graph
    integer       QDQ to integer arithmetic                              of a graph
    canonicalize  names, aliases and constants as equal graphs share     of a graph
    partition     one Relax function per kernel, and their calls         of a graph, to a program
    pack          weights as the kernels of a backend read them          of a program
    largest ...   `KERNEL_PASSES`: one kernel to one TIR function        of a kernel
    schedule      loops as the backend's instructions want them          of a kernel
    assembly      what LLVM makes of it                                  of a kernel
    plan          every tensor's place, every call                       of a program

Those of graphs and kernels are run from here; a backend packs and schedules, and a plan is made of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.importer.canonical import canonicalize
from tvm_flow.importer.integer import to_integer
from tvm_flow.importer.load import load_onnx
from tvm_flow.lower.legalize import KERNEL_PASSES

GRAPH_PASSES: tuple[tuple[str, Callable[[LiftedGraph], LiftedGraph]], ...] = (
    ("integer", to_integer),
    ("canonicalize", canonicalize),
)
"""What `tvm_flow.importer.step_groups.import_graph` does after the import."""

NAMES = (
    *("import", *(name for name, _ in GRAPH_PASSES), "partition", "pack"),
    *(name for name, _ in KERNEL_PASSES),
    *("schedule", "assembly", "plan"),
)


def graph_after_each(path: Path) -> Iterator[tuple[str, LiftedGraph]]:
    """The graph ``path`` after the import and after each of `GRAPH_PASSES`, by name; raises ImportGraphError."""
    graph = load_onnx(path)
    yield "import", graph
    for name, run in GRAPH_PASSES:
        graph = run(graph)
        yield name, graph


def kernel_after_each(module: Any) -> Iterator[tuple[str, Any]]:
    """The module of `tvm_flow.lower.legalize.call_once` after each of `KERNEL_PASSES`, by name."""
    for name, run in KERNEL_PASSES:
        module = run(module)
        yield name, module
