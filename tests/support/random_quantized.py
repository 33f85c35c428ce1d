"""Random small QDQ graphs, with names that are their own or those that the flow might give."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto

from support.onnx_graphs import model
from support.random_rows import Chain, Shape

Array = np.ndarray[Any, Any]
HOSTILE = (
    *(
        "t0",
        "t1",
        "t2",
        "%t0",
        "%t1",
        "\\%t0",
        "%",
        "\\",
        "lv",
        "lv1",
        "lv2",
        "gv",
        "p0",
        "p1",
        "packed",
        "kernel",
        "main",
    ),
    *(
        "w.s8",
        "%w.s8",
        "w.T",
        "w.packed_8x4",
        "scale.0.03",
        "w.multiplier.lv1",
        "zero_point.0",
        "k0_matmul",
        "C",
        "x~2",
    ),
    *("written.constant", "%written.constant", "%literal", "tensors", "inputs", "0", " ", "a/b:0", "ü"),
)


class Quantized(Chain):
    """A chain with integer products and quantized values among its nodes."""

    KINDS = (
        "product",
        "requantized",
        "product",
        "unary",
        "binary",
        "norm",
        "softmax",
        "move",
        "slice",
        "concat",
        "reduce",
    )

    def grow(self) -> None:
        name, shape = self.values[-1 - int(self.rng.integers(min(3, len(self.values))))]
        getattr(self, str(self.rng.choice(self.KINDS)))(name, shape)

    def array(self, value: Any) -> str:
        """A constant's name."""
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def requantized(self, name: str, shape: Shape) -> str:
        """Quantize and dequantize; returns what it gives."""
        kind = np.int8 if self.rng.integers(2) else np.uint8
        low = 0 if kind is np.int8 else 128
        scale, zero = self.array(np.float32(0.05)), self.array(kind(low + self.rng.integers(-3, 4)))
        for operator in ("QuantizeLinear", "DequantizeLinear"):
            self.emit(operator, [name, scale, zero], shape)
            name = self.values[-1][0]
        self.values.pop(-2)  # codes are no values of floats
        return name

    def product(self, name: str, shape: Shape) -> None:
        x, width = self.requantized(name, shape), int(self.rng.choice([1, 3, 8, 16, 32]))
        kind = np.int8 if self.rng.integers(2) else np.uint8
        limits = np.iinfo(kind)
        codes = self.array(self.rng.integers(limits.min, limits.max + 1, (shape[-1], width)).astype(kind))
        channels = bool(self.rng.integers(2))
        scale = self.array(self.rng.uniform(0.001, 0.02, width if channels else ()).astype(np.float32))
        middle = 0 if kind is np.int8 else 128
        zero = self.array(np.full(width if channels else (), middle + self.rng.integers(-2, 3), kind))
        self.emit("DequantizeLinear", [codes, scale, zero], (shape[-1], width), axis=1)
        weight, _ = self.values.pop()
        self.emit("MatMul", [x, weight], (*shape[:-1], width))
        if self.rng.integers(2):
            bias = self.array(self.rng.standard_normal(width).astype(np.float32))
            self.emit("Add", [self.values[-1][0], bias], self.values[-1][1])


def random_quantized(seed: int, hostile: bool = False, most: int = 6) -> tuple[ModelProto, dict[str, Array]]:
    """A graph of a few nodes, and an input."""
    rng = np.random.default_rng([seed, 1])
    chain = Quantized(rng, tuple(int(e) for e in rng.choice([1, 2, 4, 8, 16], int(rng.integers(2, 4)))))
    for _ in range(int(rng.integers(1, most + 1))):
        chain.grow()
    if not chain.nodes or len(chain.values) < 2:
        chain.product(*chain.values[0])
    output, shape = chain.values[-1]
    made = model(chain.nodes, {"x": chain.values[0][1]}, {output: shape}, chain.constants)
    feeds = {"x": rng.standard_normal(chain.values[0][1]).astype(np.float32)}
    return _renamed(made, feeds, rng) if hostile else (made, feeds)


def _renamed(
    made: ModelProto, feeds: dict[str, Array], rng: np.random.Generator
) -> tuple[ModelProto, dict[str, Array]]:
    graph = made.graph
    names = [*feeds, *(t.name for t in graph.initializer), *(o for n in graph.node for o in n.output)]
    chosen = [str(name) for name in rng.permutation(np.array(HOSTILE))[: len(names)]]
    new = dict(zip(names, chosen, strict=False))
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    return made, {new.get(name, name): value for name, value in feeds.items()}
