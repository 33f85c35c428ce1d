"""Kernels of random graphs compute what the graph says, and nothing that nobody wrote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.execution import imported, lowered, require_like_onnxruntime, run_checked
from support.onnx_graphs import model, node
from support.random_rows import random_rows


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32))
def test_every_element_is_the_reference_s(seed: int) -> None:
    """Outputs start from garbage and so does what a kernel keeps for a row: an unwritten element is far off."""
    made, feeds = random_rows(seed)
    graph = imported(made)
    require_like_onnxruntime(made, feeds, graph, run_checked(lowered(graph), feeds).output)


@pytest.mark.parametrize("rows", [1, 4, 16])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("last", ["ReduceMax", "Softmax", "ReduceMean"])
def test_a_value_joined_to_itself_before_a_row_is_reduced(rows: int, width: int, last: str) -> None:
    nodes = [
        *(node("Mul", "x x", "a"), node("Concat", "a a", "b", axis=1), node("Relu", "b", "c")),
        node(last, "c" if last == "Softmax" else "c axes", "y"),
    ]
    shape = (rows, 2 * width if last == "Softmax" else 1)
    constants = {} if last == "Softmax" else {"axes": np.array([1])}
    made = model(nodes, {"x": (rows, width)}, {"y": shape}, constants)
    feeds = {"x": np.random.default_rng(rows).standard_normal((rows, width)).astype(np.float32)}
    graph = imported(made)
    for _ in range(2):
        require_like_onnxruntime(made, feeds, graph, run_checked(lowered(graph), feeds).output)
