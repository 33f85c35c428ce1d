"""Names of tensors: those of the ONNX graph, and those that the flow makes up; the two can never meet.

A name that the flow makes up begins with `MARK` and is made by `made_up` alone. A graph may call its tensors whatever
it likes: names that begin with `MARK` or `QUOTE` get one more `QUOTE` in front when the graph is read, which keeps
different names different, and off the made-up ones.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, MutableSequence

import onnx

MARK = "%"
QUOTE = "\\"


def quoted(name: str) -> str:
    """The name of the flow for the graph's ``name``; most names stay as they are."""
    return QUOTE + name if name.startswith((MARK, QUOTE)) else name


def unquoted(name: str) -> str:
    """The graph's own name, of one that `quoted` gave."""
    return name.removeprefix(QUOTE)


def candidates(hint: str) -> Iterator[str]:
    """Made-up names that tell of ``hint``, the best first."""
    stem = MARK + hint.removeprefix(MARK)
    yield stem
    number = 2
    while True:
        yield f"{stem}~{number}"
        number += 1


def made_up(hint: str, taken: Container[str]) -> str:
    """A new name that tells of ``hint`` and is not in ``taken``."""
    return next(name for name in candidates(hint) if name not in taken)


def quote_names(graph: onnx.GraphProto) -> None:
    """Rename in place what of ``graph`` and its subgraphs needs it."""
    for tensor in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        tensor.name = quoted(tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = quoted(sparse.values.name)
    for node in graph.node:
        _replace(node.input)
        _replace(node.output)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                quote_names(inner)


def _replace(names: MutableSequence[str]) -> None:
    changed = [quoted(name) for name in names]
    if changed != list(names):
        names[:] = changed
