"""Products of more than two axes are products of matrices, and what stands beside them stays with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto
from support.execution import imported, lowered, onnxruntime_outputs, run_checked
from support.onnx_graphs import float_tolerance, model, node, qdq

from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of

Array = np.ndarray[Any, Any]
K, N = 16, 32
RNG = np.random.default_rng(0)
CONSTANTS: dict[str, Array] = {
    **{"s": np.float32(0.03), "z": np.int8(2), "w": RNG.integers(-127, 128, (K, N)).astype(np.int8)},
    **{"ws": np.full(N, 0.01, np.float32), "b": RNG.standard_normal(N).astype(np.float32)},
    **{"g": np.ones(K, np.float32), "h": np.zeros(K, np.float32), "s2": np.float32(0.1), "z2": np.int8(0)},
    **{"w2": RNG.integers(-127, 128, (N, K)).astype(np.int8), "ws2": np.full(K, 0.01, np.float32)},
}


def linear(x: str, output: str) -> list[NodeProto]:
    return [
        *qdq(x, f"{output}_d"),
        node("DequantizeLinear", "w ws", f"{output}_w", axis=1),
        node("MatMul", f"{output}_d {output}_w", output),
    ]


def built(nodes: list[NodeProto], shape: tuple[int, ...], output: tuple[int, ...]) -> ModelProto:
    used = {i for n in nodes for i in n.input}
    return model(nodes, {"x": shape}, {"y": output}, {k: v for k, v in CONSTANTS.items() if k in used})


def agrees(made: ModelProto, shape: tuple[int, ...], atol: float = 1e-4) -> Any:
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    packed = lowered(imported(made))
    got = run_checked(packed, feeds).output
    np.testing.assert_allclose(got, onnxruntime_outputs(made, feeds)[0], atol=atol, rtol=1e-4)
    return packed


@pytest.mark.parametrize("lead", [(3,), (1, 3), (2, 3), (2, 1, 3), (1, 1)])
def test_leading_extents_are_folded(lead: tuple[int, ...]) -> None:
    packed = agrees(built([*linear("x", "p"), node("Add", "p b", "y")], (*lead, K), (*lead, N)), (*lead, K))
    (product,) = packed.products.values()
    assert (product.m, product.k, product.n) == (int(np.prod(lead)), K, N) and product.epilogue


def test_a_block_has_no_more_kernels_than_its_matrix_form() -> None:
    """Normalization, quantize, product with its activation, quantize, product, residual."""

    def nodes() -> list[NodeProto]:
        return [
            node("LayerNormalization", "x g h", "n"),
            *linear("n", "p"),
            *(node("Add", "p b", "pb"), node("Gelu", "pb", "a", approximate="tanh")),
            *qdq("a", "ad", "s2 z2"),
            *(node("DequantizeLinear", "w2 ws2", "dw2", axis=1), node("MatMul", "ad dw2", "o")),
            node("Add", "x o", "y"),
        ]

    flat = agrees(built(nodes(), (6, K), (6, K)), (6, K), 0.05)
    folded = agrees(built(nodes(), (2, 3, K), (2, 3, K)), (2, 3, K), 0.05)
    assert len(folded.products) == len(flat.products) == 2
    # One call more: the output, in its own shape.
    assert len(folded.program.calls) <= len(flat.program.calls) + 2
    assert all(product.epilogue for product in folded.products.values())


def test_operands_of_other_shapes() -> None:
    """A vector, one per row, one with leading ones, a whole tensor, and one that no matrix can take."""
    shape, output = (2, 3, K), (2, 3, N)
    constants = CONSTANTS | {
        **{"whole": RNG.standard_normal(output).astype(np.float32), "ones": np.full((1, 1, N), 2, np.float32)},
        **{"column": RNG.standard_normal((2, 3, 1)).astype(np.float32)},
        "batch": RNG.standard_normal((2, 1, N)).astype(np.float32),
    }
    for other in ("whole", "ones", "column", "batch", "b"):
        nodes = [*linear("x", "p"), node("Mul", f"p {other}", "y")]
        used = {i for n in nodes for i in n.input}
        made = model(nodes, {"x": shape}, {"y": output}, {k: v for k, v in constants.items() if k in used})
        agrees(made, shape)


def test_other_operators_see_the_tensor_s_own_shape() -> None:
    nodes = [*linear("x", "p"), node("Transpose", "p", "t", perm=[2, 0, 1]), node("Softmax", "t", "y")]
    agrees(built(nodes, (2, 3, K), (N, 2, 3)), (2, 3, K))


def test_a_graph_of_matrices_stays_as_it_is() -> None:
    graph = imported(built(linear("x", "y"), (4, K), (4, N)))
    assert "relax.reshape" not in [op_name(v) for _, v in bindings_of(graph.module["main"])]


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.uint8, 128), (np.int8, 3)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels", [False, True])
def test_a_float_weight_that_the_graph_quantizes(kind: Any, zero: int, transposed: bool, channels: bool) -> None:
    """As quantization-aware training exports it: codes at import, and an integer product."""
    w = np.random.default_rng(2).standard_normal((N, K) if transposed else (K, N)).astype(np.float32)
    axis = 0 if transposed else 1
    scale = np.abs(w).max(1 - axis) / 100 if channels else np.float32(0.03)
    constants = {**{"s": CONSTANTS["s"], "z": CONSTANTS["z"], "f": w, "fs": scale.astype(np.float32)}}
    constants["fz"] = np.full(N, zero, kind) if channels else kind(zero)
    nodes = [
        *qdq("x", "d"),
        *(node("QuantizeLinear", "f fs fz", "c", axis=axis), node("DequantizeLinear", "c fs fz", "v", axis=axis)),
        *([node("Transpose", "v", "t", perm=[1, 0])] if transposed else []),
        node("MatMul", "d t" if transposed else "d v", "y"),
    ]
    made = model(nodes, {"x": (2, 3, K)}, {"y": (2, 3, N)}, constants)
    graph = imported(made)
    assert graph.left_in_float == ()
    products = [v for _, v in bindings_of(graph.module["main"]) if op_name(v) == "relax.matmul"]
    assert [(dtype_of(p), len(shape_of(p))) for p in products] == [("int32", 2)]
    tolerance = float_tolerance(np.full((6, K), 4.0), w if not transposed else w.T).max()
    packed = agrees(made, (2, 3, K), float(tolerance))
    assert len(packed.products) == 1
