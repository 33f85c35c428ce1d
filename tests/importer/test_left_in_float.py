"""What cannot be an integer product stays in float, and says why."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto
from support.execution import imported, lowered, onnxruntime_outputs, run_checked
from support.onnx_graphs import float_tolerance, model, node, qdq

from tvm_flow.importer.integer import to_integer
from tvm_flow.importer.load import import_onnx
from tvm_flow.importer.product import INT32_MAX

K, N = 8, 16
WEIGHT = np.random.default_rng(0).integers(-127, 128, (K, N)).astype(np.int8)
BASE = {"s": np.float32(0.02), "z": np.int8(3), "w": WEIGHT, "ws": np.full(N, 0.01, np.float32)}
X = np.random.default_rng(1).standard_normal((4, K)).astype(np.float32)


def dq_weight(**attributes: int) -> NodeProto:
    return node("DequantizeLinear", "w ws", "dw", **attributes)


def left(nodes: list[NodeProto], constants: dict[str, np.ndarray], outputs: dict[str, tuple[int, ...]]) -> str:
    """The reasons, after checking that the numbers are right all the same."""
    made = model(nodes, {"x": X.shape}, outputs, constants)
    graph = imported(made)
    got = run_checked(lowered(graph), {"x": X}).output
    tolerance = float_tolerance(np.abs(X) + 6, np.full((K, N), 2.5)).max()
    assert np.abs(got - onnxruntime_outputs(made, {"x": X})[0]).max() <= tolerance
    return "\n".join(graph.left_in_float)


def test_weight_alone_quantized() -> None:
    reasons = left([dq_weight(axis=1), node("MatMul", "x dw", "y")], BASE, {"y": (4, N)})
    assert "matmul" in reasons and "one operand is not quantized" in reasons
    assert "weight w: read by float operator relax.matmul" in reasons


def test_scales_along_the_input_channels() -> None:
    constants = BASE | {"ws": np.full(K, 0.01, np.float32)}
    reasons = left([*qdq("x", "dx"), dq_weight(axis=0), node("MatMul", "dx dw", "y")], constants, {"y": (4, N)})
    assert "scales along its input channels" in reasons


def test_activation_with_a_scale_per_channel() -> None:
    constants = BASE | {"s": np.full(K, 0.02, np.float32), "z": np.zeros(K, np.int8)}
    nodes = [*qdq("x", "dx", axis=1), dq_weight(axis=1), node("MatMul", "dx dw", "y")]
    assert "activation has a scale per channel" in left(nodes, constants, {"y": (4, N)})


def test_product_with_an_activation_that_has_a_scale_per_channel() -> None:
    constants = BASE | {"v": np.full(4, 0.02, np.float32), "n": np.zeros(4, np.int8)}
    turned = [node("Transpose", "x", "t", perm=[1, 0]), *qdq("t", "dt", "v n", axis=1)]
    nodes = [*qdq("x", "dx"), *turned, node("MatMul", "dx dt", "y")]
    assert "right operand, an activation, has a scale per channel" in left(nodes, constants, {"y": (4, 4)})


def test_product_with_a_turned_activation_that_has_a_scale_per_channel() -> None:
    constants = BASE | {"v": np.full(K, 0.02, np.float32), "n": np.zeros(K, np.int8)}
    turned = [*qdq("x", "dw", "v n", axis=1), node("Transpose", "dw", "t", perm=[1, 0])]
    nodes = [*qdq("x", "dx"), *turned, node("MatMul", "dx t", "y")]
    assert "one operand is not quantized" in left(nodes, constants, {"y": (4, 4)})


def test_product_of_a_constant_and_an_activation() -> None:
    nodes = [node("DequantizeLinear", "w s", "dw"), *qdq("x", "dx"), node("Transpose", "dw", "t", perm=[1, 0])]
    nodes += [node("Transpose", "dx", "xt", perm=[1, 0]), node("MatMul", "t xt", "y")]
    assert "constant on the left" in left(nodes, BASE, {"y": (N, 4)})


def test_gemm_with_alpha() -> None:
    nodes = [*qdq("x", "dx"), dq_weight(axis=1), node("Gemm", "dx dw", "y", alpha=0.5)]
    assert "one operand is not quantized" in left(nodes, BASE, {"y": (4, N)})


def test_quantized_tensor_read_by_a_float_operator_is_named() -> None:
    nodes = [
        dq_weight(axis=1),
        node("ReduceSum", "dw axes", "sums"),
        node("Reshape", "sums flat", "row"),
        *qdq("x", "dx"),
        node("Add", "dx row", "y"),
    ]
    constants = BASE | {"axes": np.array([1], np.int64), "flat": np.array([K], np.int64)}
    made = model(nodes, {"x": X.shape}, {"y": X.shape}, constants)
    assert imported(made).left_in_float == ("weight w: read by float operator relax.sum of lv1",)


@pytest.mark.parametrize(
    ("activation_zero", "weight_zero", "largest"),
    [(False, False, 128 * 128), (True, False, 255 * 128), (False, True, 128 * 255), (True, True, 255 * 255)],
)
def test_depth_that_int32_holds(activation_zero: bool, weight_zero: bool, largest: int) -> None:
    """The deepest product that cannot overflow is an integer one; one deeper is not. Zero points make codes larger."""
    for depth, fits in ((INT32_MAX // largest, True), (INT32_MAX // largest + 1, False)):
        nodes = [
            node("QuantizeLinear", "x s z" if activation_zero else "x s", "q", output_dtype=3),
            node("DequantizeLinear", "q s z" if activation_zero else "q s", "dx"),
            node("DequantizeLinear", "w ws wz" if weight_zero else "w ws", "dw"),
            node("MatMul", "dx dw", "y"),
        ]
        constants = {"s": np.float32(1), "w": np.full((depth, 1), 127, np.int8), "ws": np.float32(1)}
        constants |= {"z": np.int8(-128)} if activation_zero else {}
        constants |= {"wz": np.int8(-128)} if weight_zero else {}
        made = model(nodes, {"x": (1, depth)}, {"y": (1, 1)}, constants)
        reasons = to_integer(import_onnx(made)).left_in_float
        assert (reasons == ()) == fits, (depth, reasons)
        if not fits:
            assert f"sums over {depth} products" in reasons[0] and "beyond int32" in reasons[0]


def test_extreme_codes_at_the_greatest_depth_are_exact() -> None:
    """Every code and zero point at its end: the sum is 255 * 255 * depth, and no part of it wraps."""
    depth = INT32_MAX // (255 * 255) // 2 * 2
    constants = {
        **{"s": np.float32(1), "z": np.int8(-128), "w": np.full((depth, 32), 127, np.int8)},
        **{"ws": np.float32(1), "wz": np.int8(-128)},
    }
    nodes = [*qdq("x", "dx"), node("DequantizeLinear", "w ws wz", "dw"), node("MatMul", "dx dw", "y")]
    made = model(nodes, {"x": (1, depth)}, {"y": (1, 32)}, constants)
    seen = run_checked(lowered(imported(made)), {"x": np.full((1, depth), 300, np.float32)})
    np.testing.assert_array_equal(seen.output, np.float32(255 * 255 * depth))
