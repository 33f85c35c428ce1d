"""Quantize, accumulate, requantize: ties, saturation, zero ranges, denormals, NaN and infinity."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tvm_flow.errors import QuantizeError
from tvm_flow.numerics import (
    accumulate,
    activation_scale,
    dequantize,
    quantize,
    requantize,
    weight_scale,
)
from tvm_flow.numerics.quantize import LEAST_SCALE

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
scales = st.floats(width=32, min_value=float(np.float32(1e-30)), max_value=float(np.float32(1e30)))
int8s = st.integers(-128, 127)


def matrices(dtype: type, rows: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[np.ndarray]:
    """Small integer matrices of every value of ``dtype``."""
    sizes = st.tuples(rows or st.integers(1, 5), st.integers(1, 7))
    return sizes.flatmap(lambda shape: hnp.arrays(dtype, shape))


# quantize


@given(st.integers(-127, 126), st.integers(-20, 20))
def test_ties_go_to_even(low: int, exponent: int) -> None:
    scale = np.float32(2.0**exponent)
    q = quantize(np.float32(low + 0.5) * scale, scale)
    assert q % 2 == 0 and abs(int(q) - (low + 0.5)) == 0.5


def test_division_is_not_a_product_with_the_reciprocal() -> None:
    scale = np.float32(1.1)
    x = np.arange(-128, 128, dtype=np.float32)[:, None] + np.float32(0.5)
    x = (x * scale + np.float32(1e-6) * np.arange(-8, 8, dtype=np.float32)).ravel()
    by_division = np.clip(np.rint(x / scale), -128, 127)
    np.testing.assert_array_equal(quantize(x, scale), by_division)


@given(finite, scales, int8s)
def test_matches_exact_arithmetic_or_saturates(x: float, scale: float, zero: int) -> None:
    q = int(quantize(x, scale, zero))
    exact = x / scale + zero  # float64: closer to the truth than any float32 evaluation
    assert -128 <= q <= 127
    assert abs(q - np.clip(exact, -128, 127)) <= 0.5 + 1e-4


@given(finite, scales, int8s)
def test_round_trip_is_within_half_a_step_where_nothing_saturates(x: float, scale: float, zero: int) -> None:
    q = quantize(x, scale, zero)
    if -128 < q < 127:
        assert abs(float(dequantize(q, scale, zero)) - x) <= scale * (0.5 + 1e-4)


@given(int8s, scales, int8s)
def test_integers_survive_a_round_trip(q: int, scale: float, zero: int) -> None:
    back = quantize(dequantize(np.int8(q), scale, zero), scale, zero)
    assert int(back) == q


@given(hnp.arrays(np.float32, 8, elements=finite), scales, int8s)
def test_order_is_kept(x: np.ndarray, scale: float, zero: int) -> None:
    q = quantize(np.sort(x), scale, zero).astype(int)
    assert (np.diff(q) >= 0).all()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767), ("uint16", 0, 65535)],
)
def test_saturates_at_the_ends_of_each_type(dtype: str, low: int, high: int) -> None:
    q = quantize([-3e38, 0, 3e38], 1e-3, low, dtype)
    assert q.dtype == dtype and q.tolist() == [low, low, high]


def test_quotient_beyond_float32_saturates() -> None:
    assert quantize([3e38, -3e38], LEAST_SCALE).tolist() == [127, -128]


def test_scale_per_channel_broadcasts() -> None:
    q = quantize(np.ones((2, 3)), np.array([[1.0], [0.5]]), np.array([[0], [1]]))
    assert q.tolist() == [[1, 1, 1], [3, 3, 3]]


@given(st.floats(width=32, min_value=0, max_value=float(LEAST_SCALE), exclude_max=True), st.booleans())
def test_denormals_quantize_to_the_zero_point(x: float, negative: bool) -> None:
    assert quantize(-x if negative else x, 1.0, 3) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(QuantizeError, match=r"x: expected finite float32 values, got 1 of 2 NaN or infinite"):
        quantize([1.0, bad], 1.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, 1e-40])
def test_impossible_scales_are_refused(bad: float) -> None:
    for call in (
        lambda: quantize([1.0], bad),
        lambda: dequantize(np.int8([1]), bad),
        lambda: requantize(np.int32([1]), bad),
    ):
        with pytest.raises(QuantizeError, match="scale: expected positive normal float32"):
            call()


@pytest.mark.parametrize(("zero", "dtype"), [(128, "int8"), (-129, "int8"), (-1, "uint8"), (256, "uint8")])
def test_zero_point_outside_the_type_is_refused(zero: int, dtype: str) -> None:
    with pytest.raises(QuantizeError, match=f"zero_point: expected .* for {dtype}, got {zero}"):
        quantize([1.0], 1.0, zero, dtype)


@pytest.mark.parametrize("dtype", ["int32", "float32", "bool"])
def test_types_without_exact_float32_bounds_are_refused(dtype: str) -> None:
    with pytest.raises(QuantizeError, match=f"dtype: expected one of int8, .*, got {dtype}"):
        quantize([1.0], 1.0, 0, dtype)


# scales


@given(hnp.arrays(np.float32, (3, 4), elements=finite))
def test_weights_never_reach_minus_128(weight: np.ndarray) -> None:
    scale = weight_scale(weight)
    q = quantize(weight, scale[:, None]).astype(int)
    assert scale.dtype == np.float32 and (scale >= LEAST_SCALE).all()
    assert q.min() >= -127
    greatest = np.abs(weight).max(axis=1)
    np.testing.assert_array_equal(np.abs(q).max(axis=1), np.where(greatest / np.float32(127) < LEAST_SCALE, 0, 127))


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-40, 1e-38])
def test_zero_ranges_have_scale_one(value: float) -> None:
    assert weight_scale([[value, -value], [127.0, 0.0]]).tolist() == [1.0, 1.0]
    assert activation_scale(-value, value) == (1.0, 0)
    assert activation_scale(-value, value, symmetric=False) == (1.0, 0)


@pytest.mark.parametrize("weight", [np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((1, 2, 3))])
def test_weights_that_are_no_matrix_are_refused(weight: np.ndarray) -> None:
    with pytest.raises(QuantizeError, match=r"weight: expected a non-empty \[out, in\] matrix"):
        weight_scale(weight)


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(QuantizeError, match="weight: expected finite"):
        weight_scale([[np.nan, 1.0]])


WIDEST = float(np.finfo(np.float32).max) * (1 - 1 / 254)
"""The end of a range all of whose codes are finite. An end m becomes a code of at most m + s / 2 and a rounding, with
s = (hi - lo) / 255 of at most 2 m / 255, so at most m (1 + 1 / 255) (1 + 2^-23) < m / (1 - 1 / 254). (With
s = m / 127 the end's code is m itself, and two roundings.)"""
ends = st.floats(width=32, min_value=-float(np.float32(WIDEST)), max_value=float(np.float32(WIDEST)))


@given(ends, ends, st.booleans(), st.floats(0, 1))
@example(-3.3e38, 3.3e38, False, 0.0)
@example(-float(np.float32(WIDEST)), float(np.float32(WIDEST)), False, 0.0)
@example(-float(np.float32(WIDEST)), 0.0, True, 0.0)
def test_every_value_of_the_range_is_within_half_a_step(a: float, b: float, symmetric: bool, at: float) -> None:
    lo, hi = min(a, b), max(a, b)
    scale, zero = activation_scale(lo, hi, symmetric)
    x = np.float32(np.clip(lo * (1 - at) + hi * at, lo, hi))
    error = abs(float(dequantize(quantize(x, scale, zero), scale, zero)) - float(x))
    assert scale.dtype == np.float32 and -128 <= zero <= 127
    assert error <= float(scale) * (0.5 + 1e-3)


def test_a_code_beyond_float32_is_infinite() -> None:
    """As a kernel's product is: the end of the widest range is half a step from its code, which is no float32."""
    most = float(np.finfo(np.float32).max)
    scale, zero = activation_scale(-most, most, symmetric=False)
    assert dequantize(quantize([-most, most], scale, zero), scale, zero).tolist() == [-np.inf, 127 * scale]


@given(finite, finite)
def test_zero_is_exact_and_symmetric_ranges_have_zero_point_zero(a: float, b: float) -> None:
    scale, zero = activation_scale(min(a, b), max(a, b), symmetric=False)
    assert dequantize(quantize(0.0, scale, zero), scale, zero) == 0
    assert activation_scale(min(a, b), max(a, b))[1] == 0


def test_asymmetric_uses_the_whole_of_int8() -> None:
    scale, zero = activation_scale(0.0, 255.0, symmetric=False)
    assert (scale, zero) == (1.0, -128)
    assert quantize([0.0, 255.0], scale, zero).tolist() == [-128, 127]
    assert activation_scale(-255.0, -1.0, symmetric=False) == (1.0, 127)


def test_swapped_bounds_are_refused() -> None:
    with pytest.raises(QuantizeError, match=r"expected lo <= hi, got \[2.0, 1.0\]"):
        activation_scale(2.0, 1.0)


@pytest.mark.parametrize("bounds", [(np.nan, 1.0), (0.0, np.inf), (-1e39, 0.0)])
def test_bounds_that_are_not_finite_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(QuantizeError, match="activation range: expected finite"):
        activation_scale(*bounds)


# accumulate


@given(matrices(np.int8), st.integers(1, 5), int8s, st.randoms(use_true_random=False))
def test_accumulator_is_the_python_integer_sum(x: np.ndarray, rows: int, zero: int, random: object) -> None:
    w = np.array([[random.randint(-128, 127) for _ in x[0]] for _ in range(rows)], np.int8)  # type: ignore[attr-defined]
    want = [[sum((int(a) - zero) * int(b) for a, b in zip(r, c, strict=True)) for c in w] for r in x]
    got = accumulate(x, w, zero)
    assert got.dtype == np.int32 and got.tolist() == want


def test_leading_axes_are_kept_and_unsigned_inputs_work() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert accumulate(x, np.ones((5, 4), np.int8)).shape == (2, 3, 5)
    assert accumulate(np.uint8([[255]]), np.int8([[-128]]), 128).item() == 127 * -128


def test_sum_at_the_edge_of_int32_is_exact_and_one_more_is_refused() -> None:
    depth = 2**15  # 2^15 * 2^15 * 2 = 2^31 is one too many on the positive side only
    x, w = np.full((1, 2 * depth), -(2**7), np.int8), np.full((1, 2 * depth), 2**7 - 1, np.int8)
    assert accumulate(x, w).item() == -(2**7) * 127 * 2 * depth
    x16 = np.full((1, 2), -(2**15), np.int16)
    assert accumulate(x16, np.int16([[2**15 - 1, 2**15 - 1]])).item() == -(2**16) * (2**15 - 1)
    with pytest.raises(QuantizeError, match=r"expected sums within int32, got 2147483648 to 2147483648 over K = 2"):
        accumulate(x16, x16)


def test_operands_that_are_too_wide_or_do_not_fit_are_refused() -> None:
    with pytest.raises(QuantizeError, match="wq: expected integers of 8 or 16 bits, got int32"):
        accumulate(np.int8([[1]]), np.int32([[1]]))
    with pytest.raises(QuantizeError, match=r"wq: expected \[N, 2\] .* got shape \(1, 3\)"):
        accumulate(np.int8([[1, 2]]), np.int8([[1, 2, 3]]))


# requantize


@given(st.integers(-(2**24), 2**24), scales, int8s)
def test_requantize_rounds_one_float32_product(acc: int, multiplier: float, zero: int) -> None:
    with np.errstate(over="ignore"):
        product = np.float32(acc) * np.float32(multiplier)
    want = int(np.clip(np.rint(np.float64(product)) + zero, -128, 127))
    assert requantize(np.int32([acc]), multiplier, zero).item() == want


def test_requantize_ties_channels_and_saturation() -> None:
    acc = np.int32([[1, 3, 5, -1, -3, 10**9]])
    assert requantize(acc, 0.5).tolist() == [[0, 2, 2, 0, -2, 127]]
    assert requantize(np.int32([[4, 4]]), np.float32([0.25, 0.5]), -1).tolist() == [[0, 1]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_quantized_linear_is_near_the_float_linear(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(6, 64)).astype(np.float32), rng.normal(size=(5, 64)).astype(np.float32)
    sx, zero = activation_scale(float(x.min()), float(x.max()), symmetric=False)
    sw = weight_scale(w)
    acc = accumulate(quantize(x, sx, zero), quantize(w, sw[:, None]), zero)
    error = acc * (sx * sw) - x @ w.T
    bound = 0.51 * sx * np.abs(w).sum(1) + 0.51 * sw * np.abs(x).sum(1)[:, None] + 64 * sx * sw
    assert (np.abs(error) <= bound).all()


# the standard


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantize_agrees_with_two_other_readers_of_the_onnx_standard(dtype: str) -> None:
    """onnx's own reference evaluator, and onnxruntime without optimisation; ties and near-ties included."""
    info, kind = np.iinfo(dtype), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ports = [("x", TensorProto.FLOAT, [4096]), ("s", TensorProto.FLOAT, []), ("z", kind, [])]
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])],
        "quantize",
        [helper.make_tensor_value_info(*port) for port in ports],
        [helper.make_tensor_value_info("q", kind, [4096])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    rng = np.random.default_rng(5)
    for scale in np.float32([1, 0.5, 0.1, 0.0173, 3.7e-5, 1234.5]):
        zero = rng.integers(info.min, info.max + 1, dtype=dtype)
        halves = rng.integers(-600, 600, 4096).astype(np.float32) / 2
        x = halves * scale * (1 + rng.choice([-1e-7, 0, 1e-7], 4096)).astype(np.float32)
        feeds = {"x": x, "s": np.array(scale), "z": np.array(zero)}
        got = quantize(x, scale, zero, dtype)
        np.testing.assert_array_equal(got, ReferenceEvaluator(model).run(None, feeds)[0])
        np.testing.assert_array_equal(got, session.run(None, feeds)[0])
