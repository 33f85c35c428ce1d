"""Kernels grow linearly with a graph, however often its values are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from support.execution import imported, lowered, onnxruntime_outputs, run_checked
from support.onnx_graphs import model, node, qdq

from tvm_flow.graph.lifted import bindings_of, op_name
from tvm_flow.graph.program import Program
from tvm_flow.lower.clusters import tensor_args
from tvm_flow.lower.expansion import MOST_COPIES, reads
from tvm_flow.lower.partition import partition

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).uniform(-1, 1, (4, 16)).astype(np.float32)


def chain(kinds: list[str], source: str = "x") -> list[NodeProto]:
    names = [source, *(f"v{i}" for i in range(len(kinds) - 1)), "y"]
    return [
        node(kind, f"{a} {a}" if kind == "Mul" else a, b)
        for kind, a, b in zip(kinds, names[:-1], names[1:], strict=True)
    ]


def written_out(program: Program) -> int:
    """Operations of the largest kernel, each counted as often as its expression stands in the output's."""
    largest = 0
    for function in program.kernels.values():
        sizes: dict[Any, int] = {}
        for var, call in bindings_of(function):
            if op_name(call):
                sizes[var] = 1 + reads(call) * sum(sizes.get(arg, 0) for arg in tensor_args(call))
        largest = max(largest, *sizes.values())
    return largest


@pytest.mark.parametrize("kinds", [["Sigmoid"] * 8, ["Mul"] * 30, ["Exp"] * 6, ["Sigmoid", "Mul"] * 5])
def test_nested_operators(kinds: list[str]) -> None:
    program = partition(imported(model(chain(kinds), {"x": X.shape}, {"y": X.shape})))
    assert written_out(program) <= MOST_COPIES and len(program.calls) <= len(kinds)


def test_values_stay_right_across_the_cuts() -> None:
    made = model(chain(["Sigmoid", "Mul"] * 3), {"x": X.shape}, {"y": X.shape})
    got = run_checked(lowered(imported(made)), {"x": X}).output
    np.testing.assert_allclose(got, onnxruntime_outputs(made, {"x": X})[0], rtol=1e-5)


def test_an_epilogue_ends_before_it_is_too_large() -> None:
    rng = np.random.default_rng(1)
    constants = {"s": np.float32(0.02), "z": np.int8(0), "w": rng.integers(-9, 9, (16, 32)).astype(np.int8)}
    product = [*qdq("x", "d"), node("DequantizeLinear", "w s", "dw"), node("MatMul", "d dw", "p")]
    made = model([*product, *chain(["Sigmoid"] * 4, "p")], {"x": X.shape}, {"y": (4, 32)}, constants)
    packed = lowered(imported(made))
    assert written_out(packed.program) <= MOST_COPIES and len(packed.program.calls) > 2
    assert all(product.epilogue for product in packed.products.values()), "what fits is still an epilogue"
    np.testing.assert_allclose(run_checked(packed, {"x": X}).output, onnxruntime_outputs(made, {"x": X})[0], rtol=1e-5)
