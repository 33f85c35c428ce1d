"""The reference executor on single operators: exact integers, doubts that are not lost, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op as R

from tvm_flow.errors import BitExactError
from tvm_flow.lower import exponential
from tvm_flow.numerics import reference
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.reference import Rounded, execute

Array = np.ndarray[Any, Any]


def run(body: Callable[..., Any], *inputs: Array) -> Any:
    """``body(emit, *tensors)`` executed on ``inputs``."""
    block = relax.BlockBuilder()
    params = [relax.Var(f"p{i}", relax.TensorType(list(a.shape), str(a.dtype))) for i, a in enumerate(inputs)]
    with block.function("main", params):
        with block.dataflow():
            output = block.emit_output(body(block.emit, *params))
        block.emit_func_output(output)
    return execute(block.get()["main"], list(inputs))


def to_codes(emit: Any, x: Any) -> Any:
    rounded = emit(R.round(emit(R.divide(x, relax.const(0.3, "float32")))))
    return emit(R.astype(emit(R.clip(rounded, -128, 127)), "int8"))


X = np.array([[0.75, 0.31, -7.0], [100, -0.75, 0.1]], np.float32)
"""0.75 / 0.3 and -0.75 / 0.3 lie within rounding error of a tie."""
DOUBT = [[1, 0, 0], [0, 1, 0]]


def test_promise_of_the_exponential_is_that_of_the_kernels() -> None:
    assert reference.EXP_RELATIVE == exponential.RELATIVE_ERROR
    assert reference.EXP_ABSOLUTE == exponential.ABSOLUTE_ERROR
    assert np.exp(exponential.UPPER) > np.finfo(np.float32).max
    assert np.exp(exponential.LOWER) <= exponential.ABSOLUTE_ERROR


def test_codes_know_their_doubt() -> None:
    got = run(to_codes, X)
    assert isinstance(got, Rounded) and got.dtype == np.int8
    np.testing.assert_array_equal(got.doubt, DOUBT)
    np.testing.assert_array_equal(np.asarray(got)[1], [127, -2, 0])


def test_doubt_survives_moves_casts_and_sums() -> None:
    def moved(emit: Any, x: Any) -> Any:
        return emit(R.reshape(emit(R.permute_dims(to_codes(emit, x), [1, 0])), [6]))

    np.testing.assert_array_equal(run(moved, X).doubt, np.transpose(DOUBT).reshape(6))
    wide = run(lambda emit, x: emit(R.astype(to_codes(emit, x), "int32")), X)
    np.testing.assert_array_equal(wide.doubt, DOUBT)
    total = run(lambda emit, x: emit(R.sum(emit(R.astype(to_codes(emit, x), "int32")), axis=-1)), X)
    np.testing.assert_array_equal(total.doubt, [1, 1])
    joined = run(lambda emit, x: emit(R.concat([to_codes(emit, x), to_codes(emit, x)], axis=0)), X)
    np.testing.assert_array_equal(joined.doubt, DOUBT * 2)
    part = run(lambda emit, x: emit(R.strided_slice(to_codes(emit, x), [1], [1], [3])), X)
    np.testing.assert_array_equal(part.doubt, [[0, 0], [1, 0]])


def test_dequantized_codes_are_blurred_by_their_doubt() -> None:
    """Quantize and dequantize in one kernel: a code that may differ by one blurs the value by one scale."""

    def both(emit: Any, x: Any) -> Any:
        return emit(R.multiply(emit(R.astype(to_codes(emit, x), "float32")), relax.const(0.3, "float32")))

    got = run(both, X)
    assert isinstance(got, Bounded)
    assert np.all(got.error[np.array(DOUBT) == 1] > 0.29) and np.all(got.error[np.array(DOUBT) == 0] < 1e-5)


def test_doubt_through_integer_arithmetic() -> None:
    def affine(emit: Any, x: Any) -> Any:
        wide = emit(R.astype(to_codes(emit, x), "int32"))
        return emit(R.subtract(emit(R.multiply(wide, relax.const(-3, "int32"))), relax.const(5, "int32")))

    got = run(affine, X)
    np.testing.assert_array_equal(got.doubt, 3 * np.array(DOUBT))
    weights = np.array([[2], [1], [-4]], np.int8)
    product = run(lambda emit, x, w: emit(R.matmul(to_codes(emit, x), w, out_dtype="int32")), X, weights)
    np.testing.assert_array_equal(product.doubt, [[2], [1]])


def test_integers_read_have_no_doubt() -> None:
    got = run(lambda emit, a, b: emit(R.add(a, b)), np.array([1, 2], np.int32), np.array([5], np.int32))
    assert not isinstance(got, Rounded)
    np.testing.assert_array_equal(got, [6, 7])


def test_integer_product_is_exact_at_the_extremes() -> None:
    x, w = np.full((2, 1000), -128, np.int8), np.full((1000, 3), -128, np.int8)
    got = run(lambda emit, a, b: emit(R.matmul(a, b, out_dtype="int32")), x, w)
    assert got.dtype == np.int32 and np.all(got == 128 * 128 * 1000)


def test_large_accumulators_round_when_they_become_floats() -> None:
    acc = np.array([2**24, 2**24 + 1, -(2**31)], np.int32)
    got = run(lambda emit, a: emit(R.astype(a, "float32")), acc)
    np.testing.assert_array_equal(got.value, acc)
    assert np.all(np.abs(acc.astype(np.float32).astype(np.float64) - got.value) <= got.error)
    small = run(lambda emit, a: emit(R.astype(a, "float32")), acc[:1])
    assert not small.error.any()


def test_truncating_cast() -> None:
    got = run(lambda emit, x: emit(R.astype(x, "int32")), np.array([1.9, -1.9, 2.0], np.float32))
    np.testing.assert_array_equal(np.asarray(got), [1, -1, 2])
    assert not got.doubt.any()


@pytest.mark.parametrize("axes", [[1, 0], None])
def test_transpose_with_and_without_axes(axes: list[int] | None) -> None:
    np.testing.assert_array_equal(run(lambda emit, x: emit(R.permute_dims(x, axes)), X).value, X.T)


# refusals


def test_unknown_operator_is_named() -> None:
    with pytest.raises(BitExactError, match=r"operator relax\.tanh.*relax\.add"):
        run(lambda emit, x: emit(R.tanh(x)), X)


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (lambda emit, a, b: emit(R.add(a, b)), [[2**31 - 1], [1]]),
        (lambda emit, a, b: emit(R.subtract(a, b)), [[-(2**31)], [1]]),
        (lambda emit, a, b: emit(R.multiply(a, b)), [[2**16], [2**15]]),
    ],
)
def test_integer_overflow(body: Callable[..., Any], inputs: list[list[int]]) -> None:
    with pytest.raises(BitExactError, match=r"expected values within int32, got -?21474836"):
        run(body, *(np.array(i, np.int32) for i in inputs))


def test_sum_and_product_overflow() -> None:
    with pytest.raises(BitExactError, match="within int32"):
        run(lambda emit, a: emit(R.sum(a)), np.full(3, 2**30, np.int32))
    deep = np.full((1, 131072), -128, np.int8)
    with pytest.raises(BitExactError, match="within int32, got 2147483648"):
        run(lambda emit, a, b: emit(R.matmul(a, b, out_dtype="int32")), deep, deep.T.copy())


def test_narrowing_overflow() -> None:
    with pytest.raises(BitExactError, match="within int8, got 128"):
        run(lambda emit, a: emit(R.astype(a, "int8")), np.array([128], np.int32))
    with pytest.raises(BitExactError, match="within int8, got 300"):
        run(lambda emit, a: emit(R.astype(a, "int8")), np.array([300], np.float32))


def test_casts_of_infinity() -> None:
    with pytest.raises(BitExactError, match="finite"):
        run(lambda emit, a: emit(R.astype(a, "int8")), np.array([np.inf], np.float32))


def test_float_operators_refuse_integers() -> None:
    with pytest.raises(BitExactError, match=r"relax\.round: expected a float tensor, got int32"):
        run(lambda emit, a: emit(R.round(a)), np.array([1], np.int32))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bool"])
def test_types_that_kernels_do_not_have(dtype: str) -> None:
    with pytest.raises(BitExactError, match=f"got {dtype}"):
        run(lambda emit, a: emit(R.reshape(a, [1])), np.ones((1, 1), dtype))
