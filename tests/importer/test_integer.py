"""QDQ graphs as integers: against onnxruntime with its optimisations off, by the reference and by compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto
from support.execution import compare, imported, lowered, onnxruntime_outputs, reference_output, run_checked
from support.onnx_graphs import INT8, INT32, UINT8, float_tolerance, model, node, qdq

from tvm_flow.graph.lifted import LiftedGraph, bindings_of, dtype_of, op_name, shape_of
from tvm_flow.numerics.bounded import Bounded

Array = np.ndarray[Any, Any]
K, N = 12, 32


def matrices(seed: int = 0, lead: tuple[int, ...] = (5,), n: int = N) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*lead, K)).astype(np.float32), rng.integers(-127, 128, (K, n)).astype(np.int8)


def operators(graph: LiftedGraph) -> list[str]:
    return [op_name(value) for _, value in bindings_of(graph.module["main"])]


def assert_integer(graph: LiftedGraph, products: int = 1) -> None:
    """Every product is int8 x int8 -> int32, and no float tensor has a weight's shape."""
    assert graph.left_in_float == ()
    values = [(var, value) for var, value in bindings_of(graph.module["main"])]
    found = [value for _, value in values if op_name(value) == "relax.matmul"]
    assert len(found) == products
    weights = set()
    for value in found:
        assert [dtype_of(a) for a in value.args] == ["int8", "int8"] and dtype_of(value) == "int32"
        weights.add(shape_of(value.args[1]))
    tensors = [*graph.module["main"].params, *(var for var, value in values if op_name(value))]
    floats = {shape_of(t) for t in tensors if dtype_of(t) == "float32"}
    assert not floats & {*weights, *(shape[::-1] for shape in weights)}
    assert "relax.dequantize" not in operators(graph) and "relax.quantize" not in operators(graph)


def assert_like_onnxruntime(made: ModelProto, feeds: dict[str, Array], tolerance: Array | float) -> LiftedGraph:
    """Reference, compiled kernels and onnxruntime agree."""
    graph = imported(made)
    want = onnxruntime_outputs(made, feeds)[0]
    expected = reference_output(graph, feeds)
    assert isinstance(expected, Bounded) and expected.value.shape == want.shape
    assert np.all(np.abs(expected.value - want) <= tolerance + expected.error)
    # Both divide, round and saturate in single precision, so the codes are the same, ties included.
    distance = np.abs(run_checked(lowered(graph), feeds).output.astype(np.float64) - want)
    assert np.all(distance <= tolerance), f"off by {distance.max()}, tolerance {np.max(tolerance)}"
    return graph


def linear_model(
    x: Array,
    w: Array,
    activation: np.dtype[Any] | type,
    zero_point: int,
    weight_zero: Array | None,
    per_channel: bool,
    kind: str,
) -> tuple[ModelProto, Array]:
    """QDQ(x) times DQ(w) plus a float bias, as MatMul or Gemm; returns the real weights [K, N] too."""
    rng = np.random.default_rng(3)
    n = w.shape[1]
    unsigned = weight_zero is not None and weight_zero.dtype == np.uint8
    stored = (w.astype(np.int16) + 128).astype(np.uint8) if unsigned else w
    scale = rng.uniform(0.005, 0.02, n).astype(np.float32) if per_channel else np.float32(0.01)
    zero = np.int16(0) if weight_zero is None else weight_zero.astype(np.int16)
    real = (stored.astype(np.int16) - zero) * np.asarray(scale, np.float64)
    transposed = kind == "gemm_t"
    axis = {"axis": 0 if transposed else 1} if per_channel else {}
    parameters = "w ws" if weight_zero is None else "w ws wz"
    product = {
        "matmul": [node("MatMul", "dx dw", "p"), node("Add", "p b", "y")],
        "gemm": [node("Gemm", "dx dw b", "y")],
        "gemm_t": [node("Gemm", "dx dw b", "y", transB=1)],
    }[kind]
    constants = {
        "s": np.float32(0.02),
        "z": np.array(zero_point, activation),
        "w": np.array(stored.T if transposed else stored, order="C"),
        "ws": scale,
        "b": rng.standard_normal(n).astype(np.float32),
    }
    if weight_zero is not None:
        constants["wz"] = weight_zero
    nodes = [*qdq("x", "dx"), node("DequantizeLinear", parameters, "dw", **axis), *product]
    return model(nodes, {"x": x.shape}, {"y": (*x.shape[:-1], n)}, constants), real


SYMMETRIC = None
CASES = [
    (np.int8, 0, SYMMETRIC),
    (np.int8, -17, SYMMETRIC),
    (np.uint8, 0, SYMMETRIC),
    (np.uint8, 131, SYMMETRIC),
    (np.int8, 127, np.array(5, np.int8)),
    (np.uint8, 100, np.array(117, np.uint8)),
    (np.uint8, 128, np.array(128, np.uint8)),
]


@pytest.mark.parametrize(("activation", "zero", "weight_zero"), CASES)
@pytest.mark.parametrize(("kind", "per_channel"), [("matmul", True), ("gemm_t", True), ("gemm", False)])
def test_linear(activation: type, zero: int, weight_zero: Array | None, per_channel: bool, kind: str) -> None:
    x, w = matrices()
    if per_channel and weight_zero is not None:
        weight_zero = np.full(N, weight_zero, weight_zero.dtype)
    made, real = linear_model(x, w, activation, zero, weight_zero, per_channel, kind)
    graph = assert_like_onnxruntime(made, {"x": x}, float_tolerance(np.abs(x) + 6, real))
    assert_integer(graph)


@pytest.mark.parametrize("activation", [np.int8, np.uint8])
@pytest.mark.parametrize("lead", [(2, 3), (2, 1, 4), ()])
def test_batched_activations(lead: tuple[int, ...], activation: type) -> None:
    x, w = matrices(lead=lead)
    made, real = linear_model(x, w, activation, 9, np.full(N, 3, np.int8), True, "matmul")
    assert_integer(assert_like_onnxruntime(made, {"x": x}, float_tolerance(np.abs(x) + 6, real)))


@pytest.mark.parametrize(
    ("left", "right"), [(np.int8(-9), np.uint8(131)), (np.uint8(0), np.int8(0)), (np.int8(0), np.int8(3))]
)
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_two_activations(lead: tuple[int, ...], left: np.generic, right: np.generic) -> None:
    """As attention multiplies, each with a zero point of its own, one of them turned."""
    rng = np.random.default_rng(5)
    x, u = (rng.standard_normal((*lead, rows, K)).astype(np.float32) for rows in (5, 7))
    axes = [*range(len(lead)), len(lead) + 1, len(lead)]
    nodes = [*qdq("x", "dx"), *qdq("u", "du", "v n"), node("Transpose", "du", "t", perm=axes)]
    constants = {"s": np.float32(0.02), "z": np.array(left), "v": np.float32(0.03), "n": np.array(right)}
    nodes.append(node("MatMul", "dx t", "y"))
    made = model(nodes, {"x": x.shape, "u": u.shape}, {"y": (*lead, 5, 7)}, constants)
    # Codes reach 255 from a zero point, of which the tolerance takes each as far.
    tolerance = float_tolerance(np.full((5, K), 0.02 * 255), np.full((K, 7), 0.03 * 255))
    graph = assert_like_onnxruntime(made, {"x": x, "u": u}, tolerance)
    (product,) = (value for _, value in bindings_of(graph.module["main"]) if op_name(value) == "relax.matmul")
    assert [dtype_of(each) for each in (*product.args, product)] == ["int8", "int8", "int32"]
    assert graph.left_in_float == ()


def test_awkward_number_of_columns() -> None:
    x, w = matrices(n=7)
    made, real = linear_model(x, w, np.int8, 4, SYMMETRIC, True, "matmul")
    assert_integer(assert_like_onnxruntime(made, {"x": x}, float_tolerance(np.abs(x) + 6, real)))


def test_every_code_of_the_activation_takes_part() -> None:
    """An identity weight shows each code: nothing is lost at either end, and ties round to even."""
    x = (np.arange(-140, 140, dtype=np.float32) / 2).reshape(-1, 4)
    constants = {
        "s": np.float32(1),
        "z": np.uint8(70),
        "w": np.eye(4, 32, dtype=np.int8),
        "ws": np.ones(32, np.float32),
    }
    nodes = [*qdq("x", "dx"), node("DequantizeLinear", "w ws", "dw", axis=1), node("MatMul", "dx dw", "y")]
    made = model(nodes, {"x": x.shape}, {"y": (x.shape[0], 32)}, constants)
    assert_like_onnxruntime(made, {"x": x}, 0.0)


def bias_model(x: Array, w: Array, bias: Array, bias_scale: Array) -> ModelProto:
    constants = {
        "s": np.float32(0.02),
        "z": np.int8(3),
        "w": w,
        "ws": np.linspace(0.005, 0.02, w.shape[1], dtype=np.float32),
        "b": bias,
        "bs": bias_scale,
    }
    nodes = [
        *qdq("x", "dx"),
        node("DequantizeLinear", "w ws", "dw", axis=1),
        node("DequantizeLinear", "b bs", "db", axis=0),
        node("Gemm", "dx dw db", "y"),
    ]
    return model(nodes, {"x": x.shape}, {"y": (x.shape[0], w.shape[1])}, constants)


def test_int32_bias_of_the_accumulators_scale_is_added_in_integers() -> None:
    x, w = matrices()
    bias = np.random.default_rng(1).integers(-(2**20), 2**20, N).astype(np.int32)
    scale = np.linspace(0.005, 0.02, N, dtype=np.float32) * np.float32(0.02)
    made = bias_model(x, w, bias, scale)
    tolerance = float_tolerance(np.abs(x) + 6, w * 0.02) + 2.0**-22 * np.abs(bias * scale.astype(np.float64))
    graph = assert_like_onnxruntime(made, {"x": x}, tolerance)
    assert_integer(graph)
    additions = [v for _, v in bindings_of(graph.module["main"]) if op_name(v) == "relax.add"]
    assert [dtype_of(v) for v in additions][-1] == "int32", "the bias joins the accumulator before it is scaled"


def test_int32_bias_of_another_scale_is_added_in_float() -> None:
    x, w = matrices()
    bias = np.arange(N).astype(np.int32) * 1000
    made = bias_model(x, w, bias, np.full(N, 1e-3, np.float32))
    tolerance = float_tolerance(np.abs(x) + 6, w * 0.02) + 2.0**-22 * np.abs(bias * 1e-3)
    graph = assert_like_onnxruntime(made, {"x": x}, tolerance)
    additions = [v for _, v in bindings_of(graph.module["main"]) if op_name(v) == "relax.add"]
    assert dtype_of(additions[-1]) == "float32"


def test_int32_bias_that_could_leave_int32_is_added_in_float() -> None:
    x, w = matrices()
    bias = np.full(N, 2**31 - 1, np.int32)
    scale = np.linspace(0.005, 0.02, N, dtype=np.float32) * np.float32(0.02)
    tolerance = float_tolerance(np.abs(x) + 6, w * 0.02) + 2.0**-21 * np.abs(bias * scale.astype(np.float64))
    graph = assert_like_onnxruntime(bias_model(x, w, bias, scale), {"x": x}, tolerance)
    additions = [v for _, v in bindings_of(graph.module["main"]) if op_name(v) == "relax.add"]
    assert dtype_of(additions[-1]) == "float32"


@pytest.mark.parametrize("first", ["Add", "MatMul"])
def test_dequantized_tensor_read_by_a_float_operator_too(first: str) -> None:
    """The order of the two readers must not decide whether the product is an integer one."""
    x, w = matrices(n=K)
    constants = {"s": np.float32(0.02), "z": np.int8(3), "w": w, "ws": np.full(K, 0.01, np.float32)}
    readers = {"Add": node("Add", "dx dx", "twice"), "MatMul": node("MatMul", "dx dw", "p")}
    nodes = [*qdq("x", "dx"), node("DequantizeLinear", "w ws", "dw", axis=1), readers.pop(first), *readers.values()]
    made = model([*nodes, node("Add", "p twice", "y")], {"x": x.shape}, {"y": x.shape}, constants)
    graph = assert_like_onnxruntime(made, {"x": x}, float_tolerance(np.abs(x) + 6, w * 0.02))
    assert graph.left_in_float == ()
    assert "int32" in {dtype_of(v) for _, v in bindings_of(graph.module["main"]) if op_name(v) == "relax.matmul"}


def test_product_read_by_a_float_operator_before_its_bias() -> None:
    x, w = matrices()
    scale = np.full(N, 0.01, np.float32)
    constants = {
        **{"s": np.float32(0.02), "z": np.int8(3), "w": w, "ws": scale},
        **{"b": np.arange(N).astype(np.int32), "bs": scale * np.float32(0.02)},
    }
    nodes = [
        *qdq("x", "dx"),
        node("DequantizeLinear", "w ws", "dw", axis=1),
        node("DequantizeLinear", "b bs", "db", axis=0),
        node("MatMul", "dx dw", "p"),
        node("Mul", "p p", "square"),
        node("Add", "p db", "with_bias"),
        node("Add", "square with_bias", "y"),
    ]
    made = model(nodes, {"x": x.shape}, {"y": (x.shape[0], N)}, constants)
    assert_integer(assert_like_onnxruntime(made, {"x": x}, 1e-3))


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_codes_move_without_leaving_int8(kind: type) -> None:
    """QDQ around reshape and transpose: one quantize, the second pair acts on moved values."""
    x, w = matrices(lead=(2, 3))
    constants = {
        **{"s": np.float32(0.02), "z": np.array(7, kind), "w": w, "ws": np.full(N, 0.01, np.float32)},
        "shape": np.array([6, K], np.int64),
    }
    nodes = [
        *qdq("x", "a"),
        node("Transpose", "a", "t", perm=[1, 0, 2]),
        node("Reshape", "t shape", "r"),
        node("DequantizeLinear", "w ws", "dw", axis=1),
        node("MatMul", "r dw", "y"),
    ]
    made = model(nodes, {"x": x.shape}, {"y": (6, N)}, constants)
    flat = x.transpose(1, 0, 2).reshape(6, K)
    graph = assert_like_onnxruntime(made, {"x": x}, float_tolerance(np.abs(flat) + 6, w * 0.02))
    assert_integer(graph)
    moves = [v for _, v in bindings_of(graph.module["main"]) if op_name(v) in ("relax.permute_dims", "relax.reshape")]
    assert [dtype_of(v) for v in moves] == ["int8", "int8"]


def test_codes_moved_between_quantize_and_dequantize() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("Transpose", "q", "t", perm=[1, 0]),
        node("DequantizeLinear", "t s z", "y"),
    ]
    made = model(nodes, {"x": (3, 4)}, {"y": (4, 3)}, {"s": np.float32(0.05), "z": np.uint8(90)})
    assert_like_onnxruntime(made, {"x": x}, 0.0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_quantize_per_channel_of_any_axis(axis: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    channels = x.shape[axis]
    constants = {"s": np.linspace(0.01, 0.05, channels, dtype=np.float32), "z": np.arange(channels).astype(np.int8)}
    made = model(qdq("x", "y", axis=axis), {"x": x.shape}, {"y": x.shape}, constants)
    assert_like_onnxruntime(made, {"x": x}, 0.0)


ONE, VECTOR = np.float32(0.1), np.array([0.1], np.float32)


@pytest.mark.parametrize(("shape", "scale"), [((), ONE), ((5,), ONE), ((5,), VECTOR), ((1,), ONE), ((1,), VECTOR)])
def test_quantize_of_scalars_and_vectors(shape: tuple[int, ...], scale: Array) -> None:
    x = np.full(shape, 0.25, np.float32)
    zero = np.zeros(np.shape(scale), np.int8)
    axis = {"axis": 0} if shape else {}
    made = model(qdq("x", "y", **axis), {"x": shape}, {"y": shape}, {"s": scale, "z": zero})
    assert_like_onnxruntime(made, {"x": x}, 0.0)


@pytest.mark.parametrize(("kind", "zero"), [(INT8, np.int8(5)), (UINT8, np.uint8(133)), (UINT8, None)])
def test_graph_output_that_is_codes_has_the_onnx_type(kind: int, zero: Array | None) -> None:
    x = np.linspace(-9, 9, 40, dtype=np.float32).reshape(5, 8)
    constants = {"s": np.float32(0.05)} | ({} if zero is None else {"z": zero})
    quantize = node("QuantizeLinear", "x s" if zero is None else "x s z", "y")
    made = model([quantize], {"x": x.shape}, {"y": x.shape}, constants, {"y": kind})
    want = onnxruntime_outputs(made, {"x": x})[0]
    graph = imported(made)
    compare(reference_output(graph, {"x": x}), want)
    np.testing.assert_array_equal(run_checked(lowered(graph), {"x": x}).output, want)


def test_unsigned_codes_read_by_a_cast() -> None:
    x = np.linspace(-9, 9, 40, dtype=np.float32).reshape(5, 8)
    nodes = [node("QuantizeLinear", "x s z", "q"), node("Cast", "q", "y", to=1)]
    made = model(nodes, {"x": x.shape}, {"y": x.shape}, {"s": np.float32(0.05), "z": np.uint8(133)})
    assert_like_onnxruntime(made, {"x": x}, 0.0)


@pytest.mark.parametrize("kind", [INT8, UINT8])
def test_graph_input_that_is_codes(kind: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (5, K)).astype(np.uint8)
    feed = x if kind == UINT8 else (x.astype(np.int16) - 128).astype(np.int8)
    w = rng.integers(-127, 128, (K, N)).astype(np.int8)
    constants = {"s": np.float32(0.02), "z": feed.dtype.type(9), "w": w, "ws": np.full(N, 0.01, np.float32)}
    nodes = [
        node("DequantizeLinear", "x s z", "dx"),
        node("DequantizeLinear", "w ws", "dw", axis=1),
        node("MatMul", "dx dw", "y"),
    ]
    made = model(nodes, {"x": x.shape}, {"y": (5, N)}, constants, {"x": kind})
    graph = assert_like_onnxruntime(made, {"x": feed}, float_tolerance(np.full((5, K), 5.2), w * 0.01))
    assert_integer(graph)


def test_int32_codes_times_a_weight_stay_in_float() -> None:
    w = matrices()[1]
    constants = {"s": np.float32(0.001), "w": w, "ws": np.full(N, 0.01, np.float32)}
    nodes = [
        node("DequantizeLinear", "x s", "dx"),
        node("DequantizeLinear", "w ws", "dw", axis=1),
        node("MatMul", "dx dw", "y"),
    ]
    x = np.arange(2 * K).astype(np.int32).reshape(2, K) * 1000
    made = model(nodes, {"x": x.shape}, {"y": (2, N)}, constants, {"x": INT32})
    graph = assert_like_onnxruntime(made, {"x": x}, float_tolerance(x * 0.001, w * 0.01))
    assert "int32 and int8 codes" in graph.left_in_float[0]
