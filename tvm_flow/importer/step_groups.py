"""Import every step graph and find those that are equal once constants are lifted out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm_ffi
from tqdm import tqdm

from tvm_flow.importer.canonical import canonicalize
from tvm_flow.importer.constants import Array
from tvm_flow.importer.graph import LiftedGraph
from tvm_flow.importer.integer import to_integer
from tvm_flow.importer.load import load_onnx


@dataclass(frozen=True)
class StepGroup:
    """Step graphs of one structure: ``members[v]`` is the (step, branch) of variant v, ``given[v]`` its constants."""

    graph: LiftedGraph
    members: tuple[tuple[int, int], ...]
    given: tuple[dict[str, Array], ...]


def import_graph(path: Path) -> LiftedGraph:
    """One ONNX file as a canonical integer module, constants lifted."""
    return canonicalize(to_integer(load_onnx(path)))


def import_steps(graphs: Sequence[Sequence[Path]], progress: bool = True) -> tuple[StepGroup, ...]:
    """Import ``graphs[step][branch]`` and group the equal ones, in the order they first appear.

    Two graphs are equal when their modules are structurally equal, and every parameter comes from the initializers in
    the same way; the initializers' values may differ.
    """
    groups: list[tuple[LiftedGraph, list[tuple[int, int]], list[dict[str, Array]]]] = []
    by_hash: dict[int, list[int]] = defaultdict(list)
    paths = [((step, branch), path) for step, row in enumerate(graphs) for branch, path in enumerate(row)]
    for member, path in tqdm(paths, desc="import", unit="graph", disable=not progress):
        graph = import_graph(path)
        key = tvm_ffi.structural_hash(graph.module["main"])
        index = next((i for i in by_hash[key] if _equal(groups[i][0], graph)), None)
        if index is None:
            index = len(groups)
            by_hash[key].append(index)
            groups.append((graph, [], []))
        groups[index][1].append(member)
        groups[index][2].append(graph.given)
    return tuple(StepGroup(graph, tuple(members), tuple(given)) for graph, members, given in groups)


def _equal(a: LiftedGraph, b: LiftedGraph) -> bool:
    same_constants = list(a.constants.items()) == list(b.constants.items())
    return same_constants and bool(tvm_ffi.structural_equal(a.module["main"], b.module["main"]))
