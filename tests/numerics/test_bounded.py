"""Error bounds: single precision, in any order, stays within them, and they are not absurdly wide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_flow.numerics import bounded
from tvm_flow.numerics.bounded import TINY, Bounded, U
from tvm_flow.numerics.operators import EXP_ABSOLUTE, EXP_RELATIVE

Array = np.ndarray[Any, Any]
F = np.float32
SEEDS = st.integers(0, 2**32 - 1)
LOOSE = 50


def numbers(seed: int, size: int, spread: int = 12) -> Array:
    """Both signs and many binades."""
    rng = np.random.default_rng(seed)
    return np.asarray(
        rng.choice([-1, 1], size) * rng.uniform(1, 2, size) * 2.0 ** rng.integers(-spread, spread, size), F
    )


def assert_within(bound: Bounded, *computed: Array) -> None:
    for each in computed:
        assert each.dtype == np.float32
        distance = np.abs(each.astype(np.float64) - bound.value)
        assert np.all(distance <= bound.error), f"off by {(distance - bound.error).max()} more than the bound"


OPERATIONS: dict[str, tuple[Any, Any]] = {
    "add": (bounded.add, np.add),
    "subtract": (bounded.subtract, np.subtract),
    "multiply": (bounded.multiply, np.multiply),
    "divide": (bounded.divide, np.divide),
    "maximum": (bounded.maximum, np.maximum),
    "minimum": (bounded.minimum, np.minimum),
}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_one_operation_on_exact_operands(name: str, seed: int) -> None:
    on_bounds, on_floats = OPERATIONS[name]
    a, b = numbers(seed, 200), numbers(seed + 1, 200)
    got = on_bounds(Bounded.exact(a), Bounded.exact(b))
    assert_within(got, on_floats(a, b))
    assert np.all(got.error <= 2 * U * np.abs(got.value) + 2 * TINY)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_one_operation_on_operands_that_carry_errors(name: str, seed: int) -> None:
    """Operands anywhere within their own bounds, at the ends above all."""
    on_bounds, on_floats = OPERATIONS[name]
    rng = np.random.default_rng(seed)
    exact = [numbers(seed + i, 200, 4).astype(np.float64) for i in (0, 1)]
    errors = [np.abs(e) * rng.uniform(0, 1e-3, 200) for e in exact]
    got = on_bounds(*(Bounded(e, d) for e, d in zip(exact, errors, strict=True)))
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        # Just inside, so that rounding the shifted operand to float32 does not leave its bound.
        shifted = [(e + s * d * (1 - 1e-3)).astype(F) for e, d, s in zip(exact, errors, signs, strict=True)]
        inside = np.logical_and.reduce([np.abs(v - e) <= d for v, e, d in zip(shifted, exact, errors, strict=True)])
        distance = np.abs(on_floats(*shifted).astype(np.float64) - got.value)
        assert np.all((distance <= got.error) | ~inside)


def orders(x: Array, axis: int) -> list[Array]:
    """Sums of float32 in several orders: numpy's pairwise, forwards, backwards, in lanes."""
    forward = np.cumsum(x, axis=axis, dtype=F).take(-1, axis)
    backward = np.cumsum(np.flip(x, axis), axis=axis, dtype=F).take(-1, axis)
    lanes = [np.cumsum(part, axis=axis, dtype=F).take(-1, axis) for part in np.array_split(x, 4, axis) if part.size]
    total = lanes[0]
    for lane in lanes[1:]:
        total = (total + lane).astype(F)
    return [x.sum(axis, dtype=F), forward, backward, total]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 300), st.sampled_from([0, 2, 12]))
def test_sum_in_any_order(seed: int, length: int, spread: int) -> None:
    x = numbers(seed, 3 * length, spread).reshape(3, length) if spread else np.full((3, length), 0.1, F)
    got = bounded.total(Bounded.exact(x), (1,), False)
    assert_within(got, *orders(x, 1))
    assert np.all(got.error <= 1.01 * length * U * np.abs(x).sum(1, dtype=np.float64))


def test_sum_keeps_dimensions_and_inherits_errors() -> None:
    x = Bounded(np.ones((2, 3, 4)), np.full((2, 3, 4), 0.25))
    kept, dropped = bounded.total(x, (0, 2), True), bounded.total(x, (0, 2), False)
    assert kept.value.shape == (1, 3, 1) and dropped.value.shape == (3,)
    assert np.all(dropped.value == 8) and np.all((dropped.error >= 2) & (dropped.error < 2.001))


def test_sum_of_one_element_is_exact() -> None:
    got = bounded.total(Bounded.exact(np.array([[0.1], [3e30]], F)), (1,), True)
    assert np.all(got.error == 0)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 80))
def test_matrix_product_in_any_order(seed: int, depth: int) -> None:
    a, b = numbers(seed, 4 * depth, 4).reshape(4, depth), numbers(seed + 1, depth * 5, 4).reshape(depth, 5)
    got = bounded.matmul(Bounded.exact(a), Bounded.exact(b))
    products = a[:, :, None] * b[None]
    assert_within(got, a @ b, *orders(products, 1))
    assert np.all(got.error <= 2 * (depth + 1) * U * (np.abs(a.astype(float)) @ np.abs(b.astype(float))) + 2 * TINY)


def test_fused_multiply_add_is_within_the_bound() -> None:
    a, b, c = (numbers(i, 500, 3) for i in range(3))
    got = bounded.add(bounded.multiply(Bounded.exact(a), Bounded.exact(b)), Bounded.exact(c))
    fused = (a.astype(np.longdouble) * b + c).astype(F)
    assert_within(got, fused, a * b + c)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_square_root(seed: int) -> None:
    x = np.abs(numbers(seed, 200))
    got = bounded.sqrt(Bounded.exact(x))
    assert_within(got, np.sqrt(x))
    assert np.all(got.error <= 2 * U * got.value)
    blurred = bounded.sqrt(Bounded(x.astype(np.float64), x * 1e-3))
    for factor in (0.9991, 1.0009):
        assert_within(blurred, np.sqrt((x * F(factor)).astype(F)))


def test_square_root_near_zero() -> None:
    """A kernel that sees a negative number gives NaN, so nothing is promised there."""
    got = bounded.sqrt(Bounded(np.array([0.0, 1e-8, 0.0]), np.array([0.0, 2e-8, 1e-9])))
    assert got.error[0] == 0 and np.isinf(got.error[1:]).all()


def test_division_by_what_may_be_zero_is_unbounded() -> None:
    one = Bounded.exact(np.ones(3))
    got = bounded.divide(one, Bounded(np.array([1e-3, 0.0, 1.0]), np.array([1e-3, 0.0, 0.5])))
    assert np.isinf(got.error[:2]).all() and 1 <= got.error[2] < 1.001


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_exponential(seed: int) -> None:
    """numpy's float32 exp is better than the kernels promise, so it lies within the promise."""
    x = np.random.default_rng(seed).uniform(-100, 88.7, 300).astype(F)
    got = bounded.exponential(Bounded.exact(x), EXP_RELATIVE, EXP_ABSOLUTE)
    assert_within(got, np.exp(x))
    assert np.all(got.error <= LOOSE * U * got.value + 2 * EXP_ABSOLUTE)


def test_exponential_of_a_blurred_argument() -> None:
    a = Bounded(np.array([-5.0, 0.0, 3.0, -1e9, -1000.0, 88.0]), np.array([0.1, 0.1, 0.1, 60, 995, 0.7]))
    got = bounded.exponential(a, EXP_RELATIVE, EXP_ABSOLUTE)
    for value in (a.value - a.error, a.value + a.error):
        assert np.all(np.abs(np.exp(value) - got.value) <= got.error)
    assert got.error[3] <= 2 * EXP_ABSOLUTE, "far below zero an error of 60 changes nothing"


def test_where_float32_ends() -> None:
    """Infinite for sure, perhaps, and surely not; NaN is NaN."""
    a = Bounded(np.array([200.0, 88.7, 88.7, 1e9, np.nan]), np.array([1.0, 0.1, 0.001, 1e8, 0]))
    got = bounded.exponential(a, EXP_RELATIVE, EXP_ABSOLUTE)
    assert np.isinf(got.value[[0, 3]]).all() and not got.error[[0, 3]].any()
    assert np.isinf(got.error[1]) and np.isfinite(got.value[2]) and np.isfinite(got.error[2])
    assert np.isnan(got.value[4])
    large = Bounded.exact(np.array([3e38, 3e38, -3e38, 1.0], F))
    for result, sign in ((bounded.add(large, large), 1), (bounded.multiply(large, Bounded.exact(F(-2))), -1)):
        np.testing.assert_array_equal(result.value[:3], sign * np.array([np.inf, np.inf, -np.inf]))
        assert not result.error[:3].any() and np.isfinite(result.value[3])
    doubtful = bounded.add(Bounded(np.array([3.4e38]), np.array([1e37])), Bounded.exact(F(0)))
    assert np.isinf(doubtful.error) and np.isfinite(doubtful.value)
    infinite = Bounded.exact(np.array([np.inf, -np.inf]))
    share = bounded.divide(Bounded.exact(F(3)), infinite)
    assert not share.value.any() and not share.error.any(), "a finite number over an infinite one is zero"
    assert np.isnan(bounded.subtract(infinite, infinite).value).all()
    product = bounded.matmul(large.reshape(1, 4), large.reshape(4, 1))
    assert np.isinf(product.error).all(), "partial sums may overflow"


def test_extremes_keep_nan_and_infinity() -> None:
    x, y = Bounded.exact(np.array([np.nan, 1, np.inf, -np.inf])), Bounded.exact(np.array([1, np.nan, 0, 0]))
    for on_bounds, on_floats in ((bounded.maximum, np.maximum), (bounded.minimum, np.minimum)):
        got = on_bounds(x, y)
        np.testing.assert_array_equal(got.value, on_floats(x.value, y.value))
        assert not got.error.any()


def test_largest_ignores_the_errors_of_those_that_cannot_win() -> None:
    a = Bounded(np.array([[1.0, 2.0, -1e9]]), np.array([[0.0, 1e-6, 60.0]]))
    got = bounded.largest(a, (1,), False)
    assert got.value == [2.0] and got.error[0] <= 1.001e-6
    close = bounded.largest(Bounded(np.array([1.0, 0.9]), np.array([0.0, 0.3])), (0,), False)
    assert close.error >= 0.2 - 1e-12


CHAINS = st.lists(
    st.sampled_from(["add", "multiply", "divide", "subtract", "square_root", "mean"]), min_size=2, max_size=6
)


@settings(max_examples=100, deadline=None)
@given(SEEDS, CHAINS)
def test_chains(seed: int, chain: list[str]) -> None:
    """A random program on float32 and on bounds."""
    x = numbers(seed, 64, 2)
    float_value, bound = x, Bounded.exact(x)
    with np.errstate(all="ignore"):
        for i, name in enumerate(chain):
            if name == "square_root":
                magnitude = bounded.maximum(bounded.multiply(bound, bound), Bounded.exact(F(0.5)))
                float_value = np.sqrt(np.maximum(float_value * float_value, F(0.5)))
                bound = bounded.sqrt(magnitude)
            elif name == "mean":
                share = bounded.divide(bounded.total(bound, (0,), True), Bounded.exact(F(64)))
                bound = bounded.subtract(bound, share)
                float_value = float_value - float_value.sum(keepdims=True, dtype=F) / F(64)
            else:
                other = numbers(seed + i + 1, 64, 2)
                bound = OPERATIONS[name][0](bound, Bounded.exact(other))
                float_value = OPERATIONS[name][1](float_value, other)
    finite = np.isfinite(float_value) & np.isfinite(bound.error)
    distance = np.abs(float_value.astype(np.float64) - bound.value)
    assert np.all(distance[finite] <= bound.error[finite])
    assert finite.mean() > 0.5


def test_subnormal_results_may_be_flushed() -> None:
    a = Bounded.exact(np.array([1e-30, 0.0], F))
    got = bounded.multiply(a, Bounded.exact(np.array([1e-10, 5.0], F)))
    assert got.error[0] >= 1e-40 and got.error[1] == 0, "a flush to zero is allowed, but zero stays exact"


def test_nothing_is_promised_after_an_unbounded_error() -> None:
    unknown = Bounded(np.zeros(1), np.full(1, np.inf))
    for result in (bounded.multiply(unknown, Bounded.exact(np.zeros(1))), bounded.add(unknown, unknown)):
        assert np.isinf(result.error).all()
    product = bounded.matmul(unknown.reshape(1, 1), Bounded.exact(np.zeros((1, 1))))
    assert np.isinf(product.error).all()


# rounding


@pytest.mark.parametrize("tie", [-127.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 126.5])
def test_doubt_lies_at_ties_alone(tie: float) -> None:
    error = 1e-4
    beside = np.array([tie, tie - 0.9 * error, tie + 0.9 * error, tie - 1.1 * error, tie + 1.1 * error])
    got = bounded.round_half_even(Bounded(beside, np.full(5, error)))
    np.testing.assert_array_equal(got.value, np.rint(beside))
    np.testing.assert_array_equal(got.error, [1, 1, 1, 0, 0])


def test_exact_ties_are_certain() -> None:
    x = np.arange(-20, 20) / 2
    got = bounded.round_half_even(Bounded.exact(x))
    np.testing.assert_array_equal(got.value, np.rint(x))
    assert not got.error.any()


def test_wide_errors_give_wide_doubt() -> None:
    got = bounded.round_half_even(Bounded(np.array([0.2]), np.array([3.0])))
    assert got.value == 0 and got.error == 3


def test_saturated_values_are_certain() -> None:
    x = Bounded(np.array([127.0, 128.0, 140.0, -129.0, -128.0, 5.0]), np.array([1.0, 1, 1, 1, 1, 1]))
    got = bounded.clip(x, -128, 127)
    np.testing.assert_array_equal(got.value, [127, 127, 127, -128, -128, 5])
    np.testing.assert_array_equal(got.error, [1, 0, 0, 0, 1, 1])


def test_reshape_moves_both_parts() -> None:
    got = Bounded(np.arange(6.0), np.arange(6.0) / 10).reshape(2, 3)
    assert got.value.shape == got.error.shape == (2, 3)


def test_whole_numbers_are_added_without_error() -> None:
    """A zero point added to rounded codes must not turn a doubt of one code into a doubt of two."""
    codes = Bounded(np.array([-90.0, 3.0]), np.array([1.0, 0.0]))
    total = bounded.add(codes, Bounded.exact(np.array([-7.0])))
    assert total.error.tolist() == [1.0, 0.0]
    large = bounded.add(Bounded.exact(np.array([2.0**24])), Bounded.exact(np.array([1.0])))
    assert large.error[0] >= 1.0, "float32 cannot hold 2^24 + 1"


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 40), st.sampled_from([1.0, 1e3, 1e6, 1e9, 1e37]))
def test_softmax_is_bounded_whatever_its_scores_err(seed: int, length: int, size: float) -> None:
    """Scores anywhere within their errors: the shares of float32 lie within a bound that is never beyond 1."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((3, length)) * size
    blurred = Bounded(scores, np.abs(scores) * 1e-5)
    shifted = bounded.subtract(blurred, bounded.largest(blurred, (1,), True))
    weights = bounded.exponential(shifted, EXP_RELATIVE, EXP_ABSOLUTE)
    total = bounded.total(weights, (1,), True)
    got = bounded.divide(weights, total)
    assert np.all(got.error <= 1.001) and np.all(total.error <= length + 1)
    for _ in range(4):
        x = (scores + rng.uniform(-0.99, 0.99, scores.shape) * blurred.error).astype(F)
        e = np.exp(x - x.max(1, keepdims=True))
        assert_within(got, e / e.sum(1, keepdims=True, dtype=F))


def test_only_a_score_less_the_largest_of_its_own_row_is_known_to_be_below_it() -> None:
    a, b = (Bounded(np.array([[1e9, 2e9]]), np.array([[1e4, 1e4]])) for _ in range(2))
    other = bounded.exponential(bounded.subtract(a, bounded.largest(b, (1,), True)), EXP_RELATIVE, EXP_ABSOLUTE)
    assert np.isinf(other.error).any()
