"""Small random graphs of what row kernels are made of: reductions, moves, concatenations, elementwise operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper

from support.onnx_graphs import model

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


class Chain:
    """Nodes of a graph that grows from the input ``x`` of ``shape``, by the choices of ``rng``."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self.rng = rng
        self.values: list[tuple[str, Shape]] = [("x", shape)]
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}

    def emit(self, kind: str, inputs: list[str], shape: Shape, **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.values.append((name, shape))

    def ints(self, *values: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def grow(self) -> None:
        """One more node on one of the last values."""
        name, shape = self.values[-1 - int(self.rng.integers(min(3, len(self.values))))]
        kind = self.rng.choice(["unary", "binary", "reduce", "softmax", "concat", "move", "slice", "norm"])
        getattr(self, str(kind))(name, shape)

    def unary(self, name: str, shape: Shape) -> None:
        self.emit(str(self.rng.choice(["Relu", "Sigmoid"])), [name], shape)

    def binary(self, name: str, shape: Shape) -> None:
        fitting = [
            n
            for n, s in self.values
            if len(s) == len(shape) and all(b in (1, a) for a, b in zip(shape, s, strict=True))
        ]
        self.emit(str(self.rng.choice(["Add", "Mul", "Sub", "Max"])), [name, str(self.rng.choice(fitting))], shape)

    def reduce(self, name: str, shape: Shape) -> None:
        kind = str(self.rng.choice(["ReduceMax", "ReduceSum", "ReduceMean"]))
        self.emit(kind, [name, self.ints(-1)], (*shape[:-1], 1), keepdims=1)

    def softmax(self, name: str, shape: Shape) -> None:
        self.emit("Softmax", [name], shape, axis=-1)

    def norm(self, name: str, shape: Shape) -> None:
        for part in ("g", "b"):
            self.constants[f"{part}{len(self.nodes)}"] = self.rng.standard_normal(shape[-1]).astype(np.float32)
        self.emit("LayerNormalization", [name, f"g{len(self.nodes)}", f"b{len(self.nodes)}"], shape, epsilon=0.5)

    def concat(self, name: str, shape: Shape) -> None:
        axis = int(self.rng.integers(len(shape)))
        fitting = [
            (n, s)
            for n, s in self.values
            if len(s) == len(shape) and s[:axis] + s[axis + 1 :] == shape[:axis] + shape[axis + 1 :]
        ]
        other, extent = fitting[int(self.rng.integers(len(fitting)))]
        whole = (*shape[:axis], shape[axis] + extent[axis], *shape[axis + 1 :])
        if np.prod(whole) <= 512:
            self.emit("Concat", [name, other], whole, axis=axis)

    def move(self, name: str, shape: Shape) -> None:
        if self.rng.integers(2):
            order = [int(i) for i in self.rng.permutation(len(shape))]
            self.emit("Transpose", [name], tuple(shape[i] for i in order), perm=order)
        else:
            size = int(np.prod(shape))
            rows = int(self.rng.choice([d for d in range(1, size + 1) if size % d == 0]))
            self.emit("Reshape", [name, self.ints(rows, size // rows)], (rows, size // rows))

    def slice(self, name: str, shape: Shape) -> None:
        axis = int(self.rng.integers(len(shape)))
        start = int(self.rng.integers(shape[axis]))
        stop = int(self.rng.integers(start, shape[axis])) + 1
        inputs = [name, self.ints(start), self.ints(stop), self.ints(axis)]
        self.emit("Slice", inputs, (*shape[:axis], stop - start, *shape[axis + 1 :]))


def random_rows(seed: int, most: int = 9) -> tuple[ModelProto, dict[str, Array]]:
    """A graph of up to ``most`` nodes, and an input."""
    rng = np.random.default_rng(seed)
    chain = Chain(rng, tuple(int(e) for e in rng.choice([1, 2, 3, 4, 8, 16], int(rng.integers(2, 4)))))
    for _ in range(int(rng.integers(1, most + 1))):
        chain.grow()
    if not chain.nodes:
        chain.unary(*chain.values[0])
    name, shape = chain.values[-1]
    made = model(chain.nodes, {"x": chain.values[0][1]}, {name: shape}, chain.constants)
    return made, {"x": rng.standard_normal(chain.values[0][1]).astype(np.float32)}
