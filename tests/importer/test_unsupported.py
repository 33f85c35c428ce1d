"""Graphs that cannot be imported are refused with the reason, and odd but legal ones are not."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from support.execution import compare, imported, lowered, onnxruntime_outputs, reference_output, run_checked, value_of
from support.onnx_graphs import float_tolerance, model, node, qdq

from tvm_flow.errors import BuildError, ImportGraphError
from tvm_flow.importer.load import import_onnx
from tvm_flow.lower.partition import partition

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
Array = np.ndarray[Any, Any]


def refused(made: ModelProto, reason: str) -> None:
    with pytest.raises(ImportGraphError, match=reason):
        imported(made)


def agrees(made: ModelProto, tolerance: float = 1e-6) -> None:
    graph = imported(made)
    want = onnxruntime_outputs(made, {"x": X})[0]
    np.testing.assert_allclose(value_of(reference_output(graph, {"x": X})), want, atol=tolerance)
    np.testing.assert_allclose(run_checked(lowered(graph), {"x": X}).output, want, atol=tolerance)


@pytest.mark.parametrize("kind", ["Sin", "Cos"])
def test_operator_without_an_exact_meaning(kind: str) -> None:
    refused(model([node(kind, "x", "y")], {"x": X.shape}, {"y": X.shape}), f"relax.{kind.lower()}.*exact meaning")


@pytest.mark.parametrize("nodes", [[node("Sin", "x", "y")], [node("TopK", "x two", "v y")], [node("IsNaN", "x", "y")]])
def test_a_refusal_is_all_that_is_said(nodes: list[onnx.NodeProto], capfd: pytest.CaptureFixture[str]) -> None:
    """TVM would warn on stderr, of a builder that an error left with a function half made."""
    kind = {"TopK": TensorProto.INT64, "IsNaN": TensorProto.BOOL}.get(nodes[0].op_type, TensorProto.FLOAT)
    shape = (4, 2) if nodes[0].op_type == "TopK" else X.shape
    constants = {"two": np.array([2])} if nodes[0].op_type == "TopK" else {}
    made = model(nodes, {"x": X.shape}, {"y": shape}, constants, types={"y": kind})
    with pytest.raises(ImportGraphError):
        imported(made)
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_exact_gelu_names_itself() -> None:
    refused(model([node("Gelu", "x", "y")], {"x": X.shape}, {"y": X.shape}), "relax.nn.gelu")


@pytest.mark.filterwarnings("ignore:No Op registered")
def test_operator_that_the_importer_does_not_know() -> None:
    made = model([node("Identity", "x", "y")], {"x": X.shape}, {"y": X.shape})
    made.graph.node[0].op_type, made.graph.node[0].domain = "Mystery", ""
    refused(made, r"graph: node 'y' \(Mystery, opset 21\): expected an operator of ONNX")


def test_operator_that_the_importer_turns_into_a_kernel() -> None:
    made = model([node("Mod", "x a", "y", fmod=1)], {"x": X.shape}, {"y": X.shape}, {"a": np.float32(2)})
    refused(made, r"node 'y' \(Mod, opset 21\)")


def test_symbolic_shape() -> None:
    graph = helper.make_graph(
        [node("Add", "x x", "y")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6])],
    )
    refused(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), "static shape")


def test_computed_scale() -> None:
    nodes = [node("ReduceMax", "x", "s", keepdims=0), *qdq("x", "y")]
    refused(model(nodes, {"x": X.shape}, {"y": X.shape}, {"z": np.int8(0)}), "constant scale.*quantize statically")


def test_scale_that_is_an_input() -> None:
    nodes = qdq("x", "y")
    made = model(nodes, {"x": X.shape, "s": ()}, {"y": X.shape}, {"z": np.int8(0)})
    refused(made, "constant scale.*quantize statically")


def test_zero_point_that_is_an_input() -> None:
    made = model(qdq("x", "y"), {"x": X.shape, "z": ()}, {"y": X.shape}, {"s": np.float32(1)}, {"z": TensorProto.INT8})
    refused(made, "quantize statically")


@pytest.mark.parametrize("scale", [0.0, -0.5, np.inf, np.nan])
def test_impossible_scale(scale: float) -> None:
    made = model(qdq("x", "y"), {"x": X.shape}, {"y": X.shape}, {"s": np.float32(scale), "z": np.int8(0)})
    refused(made, "positive float32 scale")


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_sixteen_bit_codes(kind: type) -> None:
    made = model(qdq("x", "y"), {"x": X.shape}, {"y": X.shape}, {"s": np.float32(0.1), "z": kind(0)})
    refused(made, "8 bits|refused it")


def test_half_precision_scale() -> None:
    constants = {"s": np.float16(0.1), "z": np.int8(0)}
    nodes = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16),
        *qdq("h", "d"),
        node("Cast", "d", "y", to=TensorProto.FLOAT),
    ]
    refused(model(nodes, {"x": X.shape}, {"y": X.shape}, constants), "float32")


def test_blocked_scales() -> None:
    constants = {"s": np.full((4, 3), 0.1, np.float32), "z": np.zeros((4, 3), np.int8)}
    refused(model(qdq("x", "y", axis=1, block_size=2), {"x": X.shape}, {"y": X.shape}, constants), "block")


def test_dynamic_quantization() -> None:
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z", "y")]
    with pytest.raises(ImportGraphError):
        imported(model(nodes, {"x": X.shape}, {"y": X.shape}))


def test_two_outputs() -> None:
    made = model([node("Add", "x x", "a"), node("Mul", "x x", "b")], {"x": X.shape}, {"a": X.shape, "b": X.shape})
    with pytest.raises(BuildError, match="expected one output tensor"):
        partition(imported(made))


# legal, and easily forgotten


def test_graph_without_constants() -> None:
    agrees(model([node("Add", "x x", "y")], {"x": X.shape}, {"y": X.shape}))


def test_identities_at_both_ends() -> None:
    nodes = [node("Identity", "x", "a"), node("Add", "a a", "b"), node("Identity", "b", "y")]
    agrees(model(nodes, {"x": X.shape}, {"y": X.shape}))


def test_constant_nodes_are_initializers() -> None:
    """Whatever form a constant has, a quantized weight in one is lifted out and the product is an integer one."""
    rng = np.random.default_rng(1)
    w = rng.integers(-127, 128, (6, 32)).astype(np.int8)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(w)),
        helper.make_node("Constant", [], ["ws"], value_float=0.01),
        helper.make_node("Constant", [], ["b"], value_floats=rng.standard_normal(32).tolist()),
        helper.make_node("Constant", [], ["shape"], value_ints=[8, 16]),
        *qdq("x", "dx"),
        node("DequantizeLinear", "w ws", "dw"),
        node("Gemm", "dx dw b", "p"),
        node("Reshape", "p shape", "y"),
    ]
    made = model(nodes, {"x": X.shape}, {"y": (8, 16)}, {"s": np.float32(0.02), "z": np.int8(1)})
    agrees(made, float(float_tolerance(np.abs(X) + 6, w * 0.01).max()))
    graph = imported(made)
    assert graph.left_in_float == () and {"w", "b"} <= set(graph.constants)


def test_split_becomes_slices() -> None:
    equal = [node("Split", "x", "a b c", axis=1, num_outputs=3), node("Mul", "a b", "p"), node("Add", "p c", "y")]
    agrees(model(equal, {"x": X.shape}, {"y": (4, 2)}))
    sizes = [node("Split", "x sizes", "a b", axis=0), node("Add", "a b", "y")]
    agrees(model(sizes, {"x": X.shape}, {"y": (3, 6)}, {"sizes": np.array([1, 3], np.int64)}))


@pytest.mark.parametrize("order", ["C", "F"])
def test_initializers_keep_shape_and_values(order: Any) -> None:
    weight = np.asarray(np.arange(6, dtype=np.float32).reshape(2, 3), order=order)
    constants = {"scalar": np.float32(3), "one": np.ones(1, np.float32), "matrix": weight}
    nodes = [node("Mul", "x scalar", "a"), node("Mul", "a one", "b"), node("Add", "b matrix", "y")]
    graph = import_onnx(model(nodes, {"x": (2, 3)}, {"y": (2, 3)}, constants))
    for name, value in constants.items():
        assert graph.given[name].shape == np.shape(value)
        np.testing.assert_array_equal(graph.given[name], value)


# a few node cases of the ONNX backend tests, whose expected values come with them

BACKEND = [
    *("test_quantizelinear", "test_quantizelinear_axis", "test_dequantizelinear", "test_dequantizelinear_axis"),
]


def backend_cases() -> dict[str, Any]:
    """Importing a module of cases collects them; collect_testcases() would compute those of every operator."""
    from onnx.backend.test.case import node as collected
    from onnx.backend.test.case.node import dequantizelinear, quantizelinear

    assert dequantizelinear and quantizelinear
    return {case.name: case for case in collected._NodeTestCases if case.name in BACKEND}


def with_constants(case: Any) -> tuple[ModelProto, dict[str, Array], list[Array]]:
    """The case with everything but its first input turned into an initializer, as a static graph has it."""
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    names = [i.name for i in made.graph.input]
    made.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in zip(names[1:], inputs[1:], strict=True))
    del made.graph.input[1:]
    return made, {names[0]: inputs[0]}, outputs


def test_onnx_backend_cases() -> None:
    cases = backend_cases()
    assert set(cases) == set(BACKEND)
    for name, case in cases.items():
        made, inputs, (want,) = with_constants(case)
        graph = imported(made)
        got = run_checked(lowered(graph), inputs).output
        assert got.dtype == want.dtype, name
        np.testing.assert_array_equal(got, want, err_msg=name)
        compare(reference_output(graph, inputs), want, name)
