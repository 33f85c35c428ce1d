"""Nodes and initializers that a rule writes in place of a node of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tvm_flow.graph.constants import Array
from tvm_flow.graph.names import made_up


@dataclass
class Writer:
    """The nodes of the new graph, so far."""

    opset: int
    shapes: dict[str, tuple[int, ...]]
    read: frozenset[str]
    """Names that a node or the graph's outputs read."""
    values: dict[str, Array]
    """Initializers that are known by value."""
    taken: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    node: str = ""
    """Of the original, which messages name."""

    def emit(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A new node's output."""
        output = self._fresh(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], self.node, **attributes))
        return output

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """A new initializer's name."""
        name = self._fresh("constant")
        self.constants[name] = np.asarray(value, kind)
        return name

    def mean(self, x: str, axes: Sequence[int]) -> str:
        """Along ``axes``, which are kept with extent 1."""
        if self.opset < 18:
            return self.emit("ReduceMean", x, axes=list(axes), keepdims=1)
        return self.emit("ReduceMean", x, self.constant(list(axes), np.int64), keepdims=1)

    def expanded(self, x: str, shape: Sequence[int]) -> str:
        """``x`` repeated; the shape stands in the graph, where TVM's importer looks for it."""
        name = self._fresh("shape")
        value = numpy_helper.from_array(np.array(shape, np.int64))
        self.nodes.append(helper.make_node("Constant", [], [name], self.node, value=value))
        return self.emit("Expand", x, name)

    def _fresh(self, hint: str) -> str:
        name = made_up(f"written.{hint}", self.taken)
        self.taken.add(name)
        return name
