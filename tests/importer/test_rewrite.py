"""Operators that are written out in others agree with onnxruntime's own, compiled and by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from support.execution import imported, lowered, onnxruntime_outputs, reference_output, run_checked, value_of
from support.onnx_graphs import model, node

from tvm_flow.errors import ImportGraphError

Array = np.ndarray[Any, Any]
X = np.array([*np.linspace(-6, 6, 88), 0, 1e-30, -1e-30, 1e-3, 40, -40, 90, -90], np.float32).reshape(1, 4, 6, 4)
MASK = np.random.default_rng(0).integers(0, 2, (6, 4)).astype(bool)
CONSTANTS: dict[str, Array] = {
    **{"low": np.float32(-1.5), "high": np.float32(2), "mask": MASK, "c": np.float32(0.5)},
    **{f"p{i}": np.float32(p) for i, p in enumerate((1, 2, 3, 5, 8, -2, 0.5))},
    **{"shape": np.array([3, 4, 6, 4]), "scales": np.float32([1, 1, 2, 3])},
    **{"g4": np.float32([0.5, 2, 1, -1]), "b4": np.float32([1, -1, 0, 3])},
}


def agrees(nodes: list[NodeProto], output: tuple[int, ...] = X.shape, opset: int = 21, tolerance: float = 4e-7) -> None:
    used = {i for n in nodes for i in n.input}
    constants = {k: v for k, v in CONSTANTS.items() if k in used}
    made = model(nodes, {"x": X.shape}, {"y": output}, constants, opset=opset)
    want = onnxruntime_outputs(made, {"x": X})[0]
    graph = imported(made)
    for got in (run_checked(lowered(graph), {"x": X}).output, value_of(reference_output(graph, {"x": X}))):
        assert np.all(np.abs(got - want) <= tolerance * np.maximum(1, np.abs(want)))


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("kind", ["Tanh", "Erf", "Neg", "Abs", "Reciprocal"])
def test_of_one_operand(kind: str, opset: int) -> None:
    shifted = [node("Add", "x c", "a"), node(kind, "a", "y")]
    agrees(shifted if kind == "Reciprocal" else [node(kind, "x", "y")], opset=opset)


@pytest.mark.parametrize("index", range(6))
def test_powers(index: int) -> None:
    agrees([node("Max", "x high", "a"), node("Pow", f"a p{index}", "y")])


def test_a_root() -> None:
    agrees([node("Abs", "x", "a"), node("Pow", "a p6", "y")])


@pytest.mark.parametrize("bounds", ["low high", "low", " high"])
def test_clip(bounds: str) -> None:
    clip = node("Clip", "x", "y")
    clip.input.extend(bounds.split(" "))
    agrees([clip])


def test_where_of_a_constant_condition() -> None:
    agrees([node("Mul", "x x", "a"), node("Where", "mask a x", "y")])


def test_expand() -> None:
    agrees([node("Expand", "x shape", "y")], (3, *X.shape[1:]))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_normalization(groups: int) -> None:
    agrees([node("GroupNormalization", "x g4 b4", "y", num_groups=groups)], tolerance=1e-5)


@pytest.mark.parametrize("way", [{}, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}])
def test_resize_to_the_nearest(way: dict[str, str]) -> None:
    resize = node("Resize", "x", "y", mode="nearest", **way)
    resize.input.extend(["", "scales"])
    agrees([resize], (1, 4, 12, 12))


def test_a_resize_that_interpolates_is_named() -> None:
    resize = node("Resize", "x", "y", mode="linear")
    resize.input.extend(["", "scales"])
    constants = {"scales": CONSTANTS["scales"]}
    with pytest.raises(ImportGraphError, match=r"node 'y' \(Resize, opset 21\)"):
        imported(model([resize], {"x": X.shape}, {"y": (1, 4, 12, 12)}, constants))


def test_a_power_that_is_no_product_is_named() -> None:
    made = model([node("Pow", "x e", "y")], {"x": X.shape}, {"y": X.shape}, {"e": np.float32(1.7)})
    with pytest.raises(ImportGraphError, match=r"node 'y' \(Pow, opset 21\)"):
        imported(made)
