"""NaN stays NaN and infinity infinity in float operators, compiled and by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from support.execution import imported, lowered, onnxruntime_outputs, reference_output, run_checked, value_of
from support.onnx_graphs import model, node, qdq

from tvm_flow.errors import BitExactError

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
HOSTILE = X.copy()
HOSTILE[0, 3], HOSTILE[1, 0], HOSTILE[2, 15], HOSTILE[2, 1], HOSTILE[3, 4:8] = (
    np.nan,
    np.inf,
    -np.inf,
    88.7,
    ((89, -89, 1e30, -1e30)),
)
CASES: dict[str, list[NodeProto]] = {
    "exp": [node("Exp", "x", "y")],
    "softmax": [node("Softmax", "x", "y")],
    "sigmoid": [node("Sigmoid", "x", "y")],
    "relu": [node("Relu", "x", "y")],
    "max_constant": [node("Max", "x c", "y")],
    "max": [node("Mul", "x c", "m"), node("Max", "m x", "y")],
    "min": [node("Mul", "x c", "m"), node("Min", "x m", "y")],
    "max_row": [node("Max", "row x", "y")],
    "sum": [node("Add", "x x", "y")],
    "square": [node("Mul", "x x", "y")],
    "share": [node("Div", "c x", "y")],
}
CONSTANTS = {"c": np.float32(0.5), "row": np.linspace(-1, 1, 16).astype(np.float32)}


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_finite_is_what_onnxruntime_says(name: str) -> None:
    used = {i for n in CASES[name] for i in n.input}
    made = model(CASES[name], {"x": X.shape}, {"y": X.shape}, {k: v for k, v in CONSTANTS.items() if k in used})
    graph, want = imported(made), onnxruntime_outputs(made, {"x": HOSTILE})[0]
    for got in (run_checked(lowered(graph), {"x": HOSTILE}).output, value_of(reference_output(graph, {"x": HOSTILE}))):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        finite = np.isfinite(want)
        np.testing.assert_array_equal(got[~finite], want[~finite])
        np.testing.assert_allclose(got[finite], want[finite], rtol=1e-5, atol=1e-37)


def test_a_nan_that_is_quantized_is_named_by_the_reference() -> None:
    """A code cannot say that it was NaN: the kernel makes a code of it, and the check does not pass over that."""
    graph = imported(model(qdq("x", "y"), {"x": X.shape}, {"y": X.shape}, {"s": np.float32(0.1), "z": np.int8(0)}))
    with pytest.raises(BitExactError, match="expected finite values, got NaN"):
        run_checked(lowered(graph), {"x": HOSTILE})
    infinite = np.where(np.isnan(HOSTILE), 0, HOSTILE).astype(np.float32)
    got = run_checked(lowered(graph), {"x": infinite}).output
    assert got[1, 0] == np.float32(12.7) and got[2, 15] == np.float32(-12.8), "infinity saturates"
