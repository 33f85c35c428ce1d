"""Wrong, undecidable and not finite are three things, and a check says which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from support.execution import imported, lowered, run_checked
from support.onnx_graphs import model, node

from tvm_flow.backends.packed import PackedProgram
from tvm_flow.check.calls import ExactnessReport, check_call
from tvm_flow.errors import BitExactError
from tvm_flow.graph.constants import evaluate

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)


def packed(nodes: list[NodeProto], constants: dict[str, Array] | None = None) -> PackedProgram:
    return lowered(imported(model(nodes, {"x": X.shape}, {"y": X.shape}, constants)))


def checked(program: PackedProgram, x: Array, output: Array) -> ExactnessReport:
    (call,) = program.program.calls
    values = {name: evaluate(c, program.program.graph.given) for name, c in program.constants.items()} | {"x": x}
    report = ExactnessReport()
    check_call(program, 0, (*(values[name] for name in call.args), output), "here", report)
    return report


def test_what_is_beyond_a_bound_is_wrong() -> None:
    program = packed([node("Mul", "x x", "y")])
    right = (X * X).astype(np.float32)
    checked(program, X, right)
    right[1, 2] += 1
    with pytest.raises(BitExactError, match=r"element \(1, 2\).*1 of 32 are wrong.*must not ship"):
        checked(program, X, right)


def test_what_has_no_bound_is_not_called_wrong() -> None:
    """A share of a difference that rounding makes zero or not."""
    program = packed([node("Mul", "x x", "a"), node("Sub", "a c", "d"), node("Div", "x d", "y")], {"c": X * X})
    with pytest.raises(BitExactError, match=r"cannot be checked.*neither right nor wrong") as caught:
        checked(program, X, np.ones_like(X))
    assert "wrong." not in str(caught.value) and "must not ship" not in str(caught.value)


def test_a_wrong_element_is_found_among_undecidable_ones() -> None:
    c = np.zeros_like(X)
    c[0] = (X * X)[0]
    program = packed([node("Mul", "x x", "a"), node("Sub", "a c", "d"), node("Div", "x d", "y")], {"c": c})
    with pytest.raises(BitExactError, match=r"element \(1, 0\).*24 of 32 are wrong"):
        checked(program, X, np.full_like(X, 1e9))


def test_not_finite_is_said() -> None:
    program = packed([node("Mul", "x x", "y")])
    output = (X * X).astype(np.float32)
    output[3, 3] = np.nan
    with pytest.raises(BitExactError, match="a finite number, got nan"):
        checked(program, X, output)


def test_nan_and_infinity_that_must_be_so_pass() -> None:
    x = X.copy()
    x[0, 0], x[1, 1] = np.nan, np.inf
    program = packed([node("Mul", "x x", "y")])
    checked(program, x, (x * x).astype(np.float32))
    with pytest.raises(BitExactError, match="expected nan"):
        checked(program, x, np.nan_to_num(x * x).astype(np.float32))


@pytest.mark.parametrize("size", [1.0, 1e4, 1e6, 1e9, 1e18])
def test_sharp_softmax_is_checked(size: float) -> None:
    """Scores whose own rounding errors are far beyond 1: a share is still at most 1."""
    weights = (np.random.default_rng(1).standard_normal((8, 8)) * size).astype(np.float32)
    nodes = [node("MatMul", "x w", "s"), node("Softmax", "s", "p"), node("MatMul", "p v", "y")]
    values = {"w": weights, "v": np.random.default_rng(2).standard_normal((8, 8)).astype(np.float32)}
    program = packed(nodes, values)
    seen = run_checked(program, {"x": X})
    for index, call in enumerate(program.program.calls):
        tensors = tuple(seen.tensors[name] for name in (*call.args, call.output))
        check_call(program, index, tensors, "here", ExactnessReport())


@pytest.mark.parametrize("size", [1e6, 1e9])
def test_equal_scores_in_doubt_are_checked(size: float) -> None:
    """One kernel from scores to result, whose shares are equal parts: no bound of the scores' own errors allows that.

    A sharp choice shows nothing: its shares are 1 and 0 in kernel and reference alike.
    """
    keys = (np.random.default_rng(1).standard_normal((1, 8, 1)) * size).astype(np.float32)
    values = {"k": np.repeat(keys, 6, axis=2), "v": np.random.default_rng(2).standard_normal((1, 6, 8))}
    nodes = [node("MatMul", "x k", "s"), node("Softmax", "s", "p", axis=-1), node("MatMul", "p v", "y")]
    constants = {name: value.astype(np.float32) for name, value in values.items()}
    program = lowered(imported(model(nodes, {"x": (1, 4, 8)}, {"y": (1, 4, 8)}, constants)))
    seen = run_checked(program, {"x": X[None]})
    (call,) = program.program.calls
    report = ExactnessReport()
    check_call(program, 0, tuple(seen.tensors[name] for name in (*call.args, call.output)), "here", report)
    assert 0 < report.worst_float < 1


def test_nan_passes_where_its_bound_is_no_number_either() -> None:
    x = X.copy()
    x[2, 5] = np.nan
    output = np.exp(X - X.max(-1, keepdims=True))
    output = (output / output.sum(-1, keepdims=True)).astype(np.float32)
    output[2] = np.nan
    checked(packed([node("Softmax", "x", "y", axis=-1)]), x, output)
    output[2, 0] = 1
    with pytest.raises(BitExactError, match=r"element \(2, 0\): expected nan.*1 of 32 are wrong"):
        checked(packed([node("Softmax", "x", "y", axis=-1)]), x, output)


def test_a_scalar_is_compared() -> None:
    program = lowered(imported(model([node("Mul", "x x", "y")], {"x": ()}, {"y": ()})))
    checked(program, np.array(3, np.float32), np.array(9, np.float32))
    with pytest.raises(BitExactError, match="1 of 1 are wrong"):
        checked(program, np.array(3, np.float32), np.array(8, np.float32))
