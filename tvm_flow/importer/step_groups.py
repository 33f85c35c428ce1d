"""Import every step graph and find those that are equal once constants are lifted out.

Importing a full-size graph takes seconds, and a hundred steps have the same one. A graph is therefore imported only
when its file is new. Two files import to the same function, parameter for parameter, when

1. they are equal byte for byte but for opaque initializers (`tvm_flow.importer.initializers`), whose values TVM's
   importer is not given; and
2. the integer pass decided nothing by a value in which they differ. It notes every initializer whose value it looked
   at (`LiftedGraph.decisive`); those must be equal bit for bit. Scales it only checks, and so does this module.

Everything else that the passes do is a function of these, so the import of one file stands for the other's. Graphs of
unequal files are still compared once they are imported.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tvm_ffi
from tqdm import tqdm

from tvm_flow.graph.constants import Array, same_bits
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.importer.initializers import ExternalFiles, SplitGraph
from tvm_flow.importer.load import read_like, read_onnx
from tvm_flow.importer.scope import check_scale
from tvm_flow.importer.whole import import_whole

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepGroup:
    """Step graphs of one structure: ``members[v]`` is the (step, branch) of variant v, ``given[v]`` its constants."""

    graph: LiftedGraph
    members: tuple[tuple[int, int], ...]
    given: tuple[dict[str, Array], ...]


def import_graph(path: Path) -> LiftedGraph:
    """One ONNX file as a canonical integer module, constants lifted."""
    return import_whole(read_onnx(path), str(path))


def import_steps(graphs: Sequence[Sequence[Path]], progress: bool = True) -> tuple[StepGroup, ...]:
    """Import ``graphs[step][branch]`` and group the equal ones, in the order they first appear.

    Two graphs are equal when their modules are structurally equal, and every parameter comes from the initializers in
    the same way; the initializers' values may differ. A value that all of them take from the same bytes of the same
    external file is one array in all members' ``given``, a view of that file.
    """
    found = _Groups()
    paths = [((step, branch), path) for step, row in enumerate(graphs) for branch, path in enumerate(row)]
    for member, path in tqdm(paths, desc="import", unit="graph", disable=not progress):
        found.add(member, path)
    _log.info("%d step graphs: %d imported, %d step groups", len(paths), len(found.imported), len(found.groups))
    return tuple(StepGroup(graph, tuple(members), tuple(given)) for graph, members, given in found.groups)


@dataclass
class _Groups:
    groups: list[tuple[LiftedGraph, list[tuple[int, int]], list[dict[str, Array]]]] = field(default_factory=list)
    files: ExternalFiles = field(default_factory=ExternalFiles)
    imported: list[tuple[Path, SplitGraph, LiftedGraph, int]] = field(default_factory=list)
    by_hash: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, member: tuple[int, int], path: Path) -> None:
        index, given = self.known(path)
        if not given:
            split = read_onnx(path, self.files)
            graph = import_whole(split, str(path))
            index, given = self.index(graph), graph.given
            self.imported.append((path.parent, split, graph, index))
        self.groups[index][1].append(member)
        self.groups[index][2].append(given)

    def known(self, path: Path) -> tuple[int, dict[str, Array]]:
        """The group of ``path`` and what is given to it, when an import stands for it; else no values."""
        for folder, split, graph, index in reversed(self.imported):
            values = read_like(path, split) if path.parent == folder else None
            if values is not None and _stands_for(graph, values):
                # Beside the initializers: literals of the structure, which are equal.
                return index, graph.given | values
        return -1, {}

    def index(self, graph: LiftedGraph) -> int:
        """Of the group that ``graph`` is equal to, a new one if there is none."""
        key = tvm_ffi.structural_hash(graph.module["main"])
        index = next((i for i in self.by_hash[key] if _equal(self.groups[i][0], graph)), None)
        if index is None:
            index = len(self.groups)
            self.by_hash[key].append(index)
            self.groups.append((graph, [], []))
        return index


def _stands_for(known: LiftedGraph, values: dict[str, Array]) -> bool:
    """True when a graph of ``known``'s skeleton with ``values`` is imported to an equal function.

    Raises ImportGraphError for a scale that is none.
    """
    if not all(same_bits(known.given[name], values.get(name, known.given[name])) for name in known.decisive):
        return False
    for name in known.scales & values.keys():
        if values[name] is not known.given[name]:
            check_scale(name, values[name])
    return True


def _equal(a: LiftedGraph, b: LiftedGraph) -> bool:
    same_constants = list(a.constants.items()) == list(b.constants.items())
    return same_constants and bool(tvm_ffi.structural_equal(a.module["main"], b.module["main"]))
