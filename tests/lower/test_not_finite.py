"""NaN stays NaN and infinity infinity in float operators, compiled and by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from support.execution import (
    call_kernel,
    compile_functions,
    imported,
    lowered,
    onnxruntime_outputs,
    reference_output,
    run_checked,
    value_of,
)
from support.onnx_graphs import model, node, qdq

from tvm_flow.backends.cpu.codegen import scheduled_kernels
from tvm_flow.backends.cpu.generic import GENERIC
from tvm_flow.errors import BitExactError
from tvm_flow.graph.constants import evaluate
from tvm_flow.numerics.quantize import quantize

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
    "tanh": [node("Tanh", "x", "y")],
    "erf": [node("Erf", "x", "y")],
    "clip": [node("Clip", "x low c", "y")],
    "abs": [node("Abs", "x", "y")],
    "square_root": [node("Abs", "x", "a"), node("Sqrt", "a", "y")],
    "power": [node("Pow", "x two", "y")],
    "layer_norm": [node("LayerNormalization", "x row row", "y")],
    "masked_by_an_infinity": [node("Where", "chosen x lowest", "y")],
}
CONSTANTS = {
    "c": np.float32(0.5),
    "row": np.linspace(-1, 1, 16).astype(np.float32),
    "low": np.float32(-0.5),
    "two": np.float32(2),
    "chosen": np.arange(16) != 6,
    "lowest": np.float32(-np.inf),
}


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


NAN, INF = np.float32(np.nan), np.float32(np.inf)


def rows_of(length: int) -> Array:
    """Rows with NaN at either end, of either sign, or everywhere, and with infinities."""
    x = np.random.default_rng(1).standard_normal((8, length)).astype(np.float32)
    x[1, 0], x[2, -1], x[3], x[4, length // 2], x[5, 0], x[6] = NAN, NAN, NAN, -NAN, INF, -INF
    return x


@pytest.mark.parametrize("read", [False, True], ids=["alone", "read_in_the_kernel"])
@pytest.mark.parametrize("length", [1, 3, 8, 16, 64])
def test_the_largest_of_a_row_is_nan_where_one_of_it_is(length: int, read: bool) -> None:
    """As numpy's; onnxruntime's takes NaN for small."""
    x = rows_of(length)
    nodes = [node("ReduceMax", "x axes", "m" if read else "y", keepdims=1), *[node("Sub", "x m", "y")] * read]
    made = model(nodes, {"x": x.shape}, {"y": x.shape if read else (8, 1)}, {"axes": np.array([1], np.int64)})
    graph, largest = imported(made), x.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        want = x - largest if read else largest
    np.testing.assert_array_equal(run_checked(lowered(graph), {"x": x}).output, want)
    np.testing.assert_array_equal(value_of(reference_output(graph, {"x": x})).astype(np.float32), want)


@pytest.mark.parametrize("axes", [(0,), (0, 1)])
def test_so_is_that_of_columns_and_of_all(axes: tuple[int, ...]) -> None:
    x = rows_of(16)
    want = x.max(axis=axes)
    made = model(
        [node("ReduceMax", "x axes", "y", keepdims=0)], {"x": x.shape}, {"y": want.shape}, {"axes": np.array(axes)}
    )
    np.testing.assert_array_equal(run_checked(lowered(imported(made)), {"x": x}).output, want)


def test_softmax_pays_nothing_for_it() -> None:
    """A NaN is in the differences to the largest anyway, so its kernels keep the plain maximum."""
    made = model([node("Softmax", "x", "y")], {"x": (8, 64)}, {"y": (8, 64)})
    packed = lowered(imported(made))
    (code,) = map(str, scheduled_kernels(packed).values())
    assert "T.max(" in code and "2139095040" not in code, "bits of infinity"
    x = rows_of(64)
    got = run_checked(packed, {"x": x}).output
    np.testing.assert_array_equal(np.isnan(got), ~np.isfinite(x).all(axis=1, keepdims=True) | np.zeros_like(x, bool))


@pytest.mark.parametrize("isa", ["host", "generic"])
def test_a_kernel_makes_the_largest_code_of_nan(isa: str) -> None:
    """The rule of `tvm_flow.numerics.quantize`; the zero point changes nothing."""
    nodes = [node("QuantizeLinear", "x s z", "y")]
    x = rows_of(16)
    for zero, largest in ((np.int8(0), 127), (np.int8(-5), 127), (np.uint8(3), 255)):
        kind = helper.np_dtype_to_tensor_dtype(zero.dtype)
        made = model(nodes, {"x": x.shape}, {"y": x.shape}, {"s": np.float32(0.1), "z": zero}, types={"y": kind})
        packed = lowered(imported(made), GENERIC if isa == "generic" else None)
        module, tensors = compile_functions(scheduled_kernels(packed)), {"x": x}
        tensors |= {name: evaluate(c, packed.program.graph.given) for name, c in packed.constants.items()}
        for call in packed.program.calls:
            spec, inputs = packed.program.tensors[call.output], [tensors[name] for name in call.args]
            tensors[call.output] = call_kernel(module, call.kernel, inputs, spec.shape, spec.dtype)
        got = tensors[packed.program.output]
        assert (got[np.isnan(x)] == largest).all()
        np.testing.assert_array_equal(got[0], quantize(x[0], 0.1, zero, zero.dtype))
