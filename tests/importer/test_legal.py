"""Invalid graphs, and those that would be imported as something else, are refused in one line that names the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, save
from support.execution import imported, lowered, onnxruntime_outputs, run_checked
from support.onnx_graphs import FLOAT, INT8, model, node, qdq

from tvm_flow.errors import ImportGraphError
from tvm_flow.importer.step_groups import import_graph

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
Array = np.ndarray[Any, Any]


def unchecked(nodes: list[Any], constants: dict[str, TensorProto], opset: int = 21) -> ModelProto:
    """x [4, 6] to y of a graph that nobody has looked at."""
    sides = [[helper.make_tensor_value_info(name, FLOAT, X.shape)] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", *sides, list(constants.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def tensor(name: str, kind: int, value: float) -> TensorProto:
    return helper.make_tensor(name, kind, [], [value])


SCALE = tensor("s", FLOAT, 0.1)
CODES = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s v", "y")]


def refused(path: Path, made: ModelProto, *words: str) -> None:
    """In one line that has ``words``, and the file's name first."""
    save(made, str(path / "g.onnx"))
    with pytest.raises(ImportGraphError) as caught:
        import_graph(path / "g.onnx")
    message = str(caught.value)
    assert message.startswith(f"{path / 'g.onnx'}: ") and "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("kind", "value"), [(TensorProto.UINT8, 3), (TensorProto.INT32, 300), (TensorProto.INT32, 0)])
def test_zero_points_of_another_type_than_the_codes(tmp_path: Path, kind: int, value: int) -> None:
    constants = {"s": SCALE, "z": tensor("z", INT8, 3), "v": tensor("v", kind, value)}
    refused(tmp_path, unchecked(CODES, constants), "node 'y' (DequantizeLinear, opset 21)", "x_zero_point")


def test_a_small_integer_that_holds_a_larger_one(tmp_path: Path) -> None:
    """int8 written as int32, which protobuf does not cut."""
    wide = TensorProto(name="z", data_type=TensorProto.INT8, dims=[], int32_data=[300])
    refused(tmp_path, unchecked(qdq("x", "y"), {"s": SCALE, "z": wide}), "initializer 'z'", "300")


def test_an_operator_of_another_domain_is_not_taken_for_one_of_onnx(tmp_path: Path) -> None:
    made = unchecked([helper.make_node("Relu", ["x"], ["y"], "mine", domain="com.example")], {})
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    refused(tmp_path, made, "node 'mine' (com.example::Relu, opset 21)", "another domain")


def test_branches(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("o", FLOAT, X.shape)
    branches = [helper.make_graph([node(kind, "x x", "o")], kind, [], [value]) for kind in ("Add", "Mul")]
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    made = unchecked([chosen], {"c": tensor("c", TensorProto.BOOL, 1)})
    refused(tmp_path, made, "node 'y' (If, opset 21)", "straight line")


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "BFLOAT16", "DOUBLE", "FLOAT8E4M3FN", "INT16"])
def test_types_that_kernels_do_not_have(tmp_path: Path, kind: str) -> None:
    codes = kind in ("INT4", "UINT4", "FLOAT8E4M3FN", "INT16")
    weight = helper.make_tensor("w", getattr(TensorProto, kind), [6], [1, 2, 3, 0, 1, 2])
    first = node("DequantizeLinear", "w s", "d") if codes else node("Cast", "w", "d", to=FLOAT)
    refused(tmp_path, unchecked([first, node("Add", "x d", "y")], {"s": SCALE, "w": weight}), "initializer 'w'", kind)


def test_an_old_opset(tmp_path: Path) -> None:
    refused(tmp_path, unchecked([node("Relu", "x", "y")], {}, 12), "opset 12", "13 or later")


def test_the_node_at_fault_is_named_inside_a_longer_graph(tmp_path: Path) -> None:
    """What TVM's importer or the passes after it say names variables of their own."""
    names = ("Relu", "Cos", "Sqrt", "Sin", "Relu")
    tensors = ["x", *(f"v{i}" for i in range(len(names) - 1)), "y"]
    nodes = [helper.make_node(n, [tensors[i]], [tensors[i + 1]], f"layer/{i}") for i, n in enumerate(names)]
    refused(tmp_path, model(nodes, {"x": X.shape}, {"y": X.shape}), "node 'layer/1' (Cos, opset 21)", "relax.cos")


def test_what_tvm_would_take_for_something_else(tmp_path: Path) -> None:
    """A mode that it does not read, and tensors without elements."""
    moved = helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2)
    made = model([moved], {"x": (1, 2, 4, 4)}, {"y": (1, 8, 2, 2)})
    made.graph.node[0].attribute.append(helper.make_attribute("mode", "CRD"))
    refused(tmp_path, made, "node 'y' (SpaceToDepth, opset 21)", "mode")
    empty = [node("Slice", "x from to", "e"), node("Concat", "e x", "y", axis=0)]
    bounds = {"from": np.array([9]), "to": np.array([12])}
    made = model(empty, {"x": X.shape}, {"y": X.shape}, bounds)
    refused(tmp_path, made, "node 'e' (Slice, opset 21)", "with elements")


@pytest.mark.parametrize("kind", ["Div", "Max", "Min"])
def test_operators_that_know_floats_alone(tmp_path: Path, kind: str) -> None:
    nodes = [node("Add", "x x", "i"), node(kind, "i x", "j"), node("Cast", "j", "y", to=FLOAT)]
    made = model(nodes, {"x": X.shape}, {"y": X.shape}, types={"x": TensorProto.INT32})
    refused(tmp_path, made, f"node 'j' ({kind}, opset 21)", "got int32")


@pytest.mark.parametrize("used", ["mean", "inverse"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("axis", "opset"), [(-1, 17), (-1, 21), (1, 21)])
def test_every_output_of_a_layer_normalization(used: str, biased: bool, axis: int, opset: int) -> None:
    x = np.random.default_rng(1).standard_normal((3, 4, 16)).astype(np.float32) + 2
    shape = x.shape[axis % 3 :]
    constants = {
        "g": np.random.default_rng(2).standard_normal(shape).astype(np.float32),
        "b": np.ones(shape, np.float32),
    }
    inputs = "x g b" if biased else "x g"
    norm = helper.make_node("LayerNormalization", inputs.split(), ["n", "mean", "inverse"], axis=axis)
    made = model([norm, node("Mul", f"n {used}", "y")], {"x": x.shape}, {"y": x.shape}, constants, opset=opset)
    got = run_checked(lowered(imported(made)), {"x": x}).output
    np.testing.assert_allclose(got, onnxruntime_outputs(made, {"x": x})[0], rtol=1e-4, atol=1e-4)


def test_a_layer_normalization_without_a_bias() -> None:
    made = model(
        [node("LayerNormalization", "x g", "y")], {"x": X.shape}, {"y": X.shape}, {"g": np.ones(6, np.float32)}
    )
    got = run_checked(lowered(imported(made)), {"x": X}).output
    np.testing.assert_allclose(got, onnxruntime_outputs(made, {"x": X})[0], atol=1e-5)


def test_other_operators_are_refused_when_a_later_output_is_read(tmp_path: Path) -> None:
    """TVM's importer gives a zero for each."""
    pooled = helper.make_node("MaxPool", ["x"], ["p", "where"], "pool", kernel_shape=[2], strides=[2])
    cast = node("Cast", "where", "c", to=FLOAT)
    made = model([pooled, cast, node("Add", "p c", "y")], {"x": (1, 2, 8)}, {"y": (1, 2, 4)})
    refused(tmp_path, made, "node 'pool' (MaxPool, opset 21)", "'where' read too")


def test_outputs_that_no_kernel_computes() -> None:
    """An initializer, an input, or what a constant is folded to: each is copied."""
    constants = {"c": X, "one": np.float32(1)}
    for source in ("c", "x"):
        made = model([node("Identity", source, "y")], {"x": X.shape}, {"y": X.shape}, constants)
        np.testing.assert_array_equal(run_checked(lowered(imported(made)), {"x": X}).output, X)
    scalar = model([node("Identity", "one", "y")], {"x": X.shape}, {"y": ()}, constants)
    np.testing.assert_array_equal(run_checked(lowered(imported(scalar)), {"x": X}).output, np.float32(1))
    made = model([node("Relu", "x", "y")], {"x": X.shape}, {"y": X.shape}, {"unread": X})
    made.graph.output[0].name = "unread"
    onnx.checker.check_model(made)
    np.testing.assert_array_equal(run_checked(lowered(imported(made)), {"x": X}).output, X)


def test_a_product_whose_sums_are_moved() -> None:
    rng = np.random.default_rng(3)
    constants = {"s": np.float32(0.02), "z": np.int8(0), "w": rng.integers(-127, 128, (6, 8)).astype(np.int8)}
    constants["ws"] = np.full(8, 0.01, np.float32)
    product = [*qdq("x", "d"), node("DequantizeLinear", "w ws", "dw", axis=1), node("MatMul", "d dw", "p")]
    for move, shape in (
        (node("Transpose", "p", "y", perm=[1, 0]), (8, 4)),
        (node("Reshape", "p shape", "y"), (2, 16)),
        (node("Unsqueeze", "p axes", "y"), (1, 4, 8)),
    ):
        extra = {"shape": np.array([2, 16]), "axes": np.array([0])}
        made = model([*product, move], {"x": X.shape}, {"y": shape}, constants | extra)
        got = run_checked(lowered(imported(made)), {"x": X}).output
        np.testing.assert_allclose(got, onnxruntime_outputs(made, {"x": X})[0], atol=1e-4)
