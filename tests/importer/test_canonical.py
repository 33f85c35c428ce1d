"""Composite operators written out: each against float64, within the bound that the reference gives it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from support.execution import compare, imported, lowered, reference_output, run_checked
from support.onnx_graphs import model, node

from tvm_flow.graph.lifted import LiftedGraph, bindings_of, op_name
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.reference import OPERATORS

Array = np.ndarray[Any, Any]
SHAPE = (4, 3, 24)
X = np.concatenate([np.linspace(-12, 12, 144), np.random.default_rng(0).standard_normal(144)])
X = X.astype(np.float32).reshape(SHAPE)
GAIN, SHIFT = (np.random.default_rng(i).standard_normal(24).astype(np.float32) for i in (1, 2))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def layer_norm(x: Array) -> Array:
    d = x - x.mean(-1, keepdims=True)
    return np.asarray(d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-6) * GAIN.astype(float) + SHIFT.astype(float))


def gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


CASES: dict[str, tuple[list[NodeProto], Callable[[Array], Array]]] = {
    "layer_norm": ([node("LayerNormalization", "x g b", "y", axis=-1, epsilon=1e-6)], layer_norm),
    "softmax": ([node("Softmax", "x", "y", axis=-1)], softmax),
    "gelu": ([node("Gelu", "x", "y", approximate="tanh")], gelu),
    "sigmoid": ([node("Sigmoid", "x", "y")], sigmoid),
    "silu": ([node("Sigmoid", "x", "s"), node("Mul", "x s", "y")], lambda x: x * sigmoid(x)),
    "relu": ([node("Relu", "x", "y")], lambda x: np.maximum(x, 0)),
    "mean_last": ([node("ReduceMean", "x last", "y")], lambda x: x.mean(-1, keepdims=True)),
    "mean_first": ([node("ReduceMean", "x first", "y")], lambda x: x.mean(0, keepdims=True)),
    "mean_all": ([node("ReduceMean", "x", "y", keepdims=0)], lambda x: np.asarray(x.mean())),
}
CONSTANTS = {
    **{"g": GAIN, "b": SHIFT, "last": np.array([-1], np.int64), "first": np.array([0], np.int64)},
}


def graph_of(name: str, x: Array) -> LiftedGraph:
    nodes, exact = CASES[name]
    used = {i for n in nodes for i in n.input}
    constants = {k: v for k, v in CONSTANTS.items() if k in used}
    return imported(model(nodes, {"x": x.shape}, {"y": exact(x.astype(float)).shape}, constants))


@pytest.mark.parametrize("name", CASES)
def test_rewrite_is_the_operator(name: str) -> None:
    graph, exact = graph_of(name, X), CASES[name][1](X.astype(np.float64))
    got = reference_output(graph, {"x": X})
    assert isinstance(got, Bounded)
    # Constants such as sqrt(2 / pi) are rounded to float32 in the graph: a few units in the last place.
    np.testing.assert_allclose(got.value, exact, rtol=2e-6, atol=2e-7)
    assert np.all(got.error < 2e-4), "and the bound says something"
    compare(got, run_checked(lowered(graph), {"x": X}).output)


@pytest.mark.parametrize("name", CASES)
def test_only_operators_with_a_meaning_are_left(name: str) -> None:
    names = {op_name(value) for _, value in bindings_of(graph_of(name, X).module["main"])} - {""}
    assert names and names <= OPERATORS.keys()


@pytest.mark.parametrize("name", ["gelu", "sigmoid", "silu", "softmax"])
def test_far_arguments_neither_overflow_nor_vanish_wrongly(name: str) -> None:
    x = np.array([-1e4, -200, -88.5, -87.5, 0, 87.5, 88.5, 200, 1e4, -1e-30, 1e-30, 0], np.float32).reshape(1, 12)
    with np.errstate(over="ignore"):
        exact = CASES[name][1](x.astype(np.float64))
    graph = graph_of(name, x)
    got = run_checked(lowered(graph), {"x": x}).output
    assert np.isfinite(got).all()
    # exp is capped at exp(88), so what is left of -1e4 is 1e4 exp(-88).
    np.testing.assert_allclose(got, exact, rtol=2e-6, atol=1e-34)


def test_softmax_with_masked_scores_keeps_a_tight_bound() -> None:
    """A masked score is known to 60 only, one unit in the last place of 1e9; that must not blur the others."""
    mask = np.where(np.arange(24) < 20, 0, -1e9).astype(np.float32)
    nodes = [node("Add", "x m", "a"), node("Softmax", "a", "y", axis=-1)]
    graph = imported(model(nodes, {"x": SHAPE}, {"y": SHAPE}, {"m": mask}))
    got = reference_output(graph, {"x": X})
    assert isinstance(got, Bounded)
    np.testing.assert_allclose(got.value[..., :20], softmax(X[..., :20].astype(float)), rtol=1e-9)
    assert np.all(got.value[..., 20:] == 0)
    assert np.all(got.error <= 1e-4 * got.value + 1e-37)
    assert np.all(run_checked(lowered(graph), {"x": X}).output[..., 20:] == 0)


def test_unused_constants_are_dropped() -> None:
    made = model([node("Add", "x used", "y")], {"x": (24,)}, {"y": (24,)}, {"used": GAIN, "unused": SHIFT})
    assert list(imported(made).constants) == ["used"]


def test_other_axes_are_refused() -> None:
    from tvm_flow.errors import ImportGraphError

    made = model([node("Softmax", "x", "y", axis=1)], {"x": SHAPE}, {"y": SHAPE})
    with pytest.raises(ImportGraphError, match="last axis"):
        imported(made)
