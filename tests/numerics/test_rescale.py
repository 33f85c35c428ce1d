"""TOSA's arithmetic as numpy states it is that of the specification's reference model, bit for bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arm_npu import MISSING, by_reference_model, codes, needs_npu_arm

from tvm_flow.errors import BuildError, QuantizeError
from tvm_flow.numerics import requantize
from tvm_flow.numerics.rescale import (
    LEAST_SHIFT,
    MOST_SHIFT,
    TABLE_ENTRIES,
    Rounding,
    looked_up,
    multiplier_and_shift,
    rescale,
)

SCALES = st.floats(2.0**-31, 1.0, width=32)


@given(st.floats(2.0**-32, 2.0**27, width=32))
def test_a_float32_scale_is_met_exactly(scale: float) -> None:
    multiplier, shift = multiplier_and_shift(scale)
    assert 1 << 29 <= int(multiplier) < 1 << 30 and LEAST_SHIFT <= int(shift) <= MOST_SHIFT
    assert Fraction(int(multiplier), 1 << int(shift)) == Fraction(scale)


@given(st.floats(1e-9, 1e6))
def test_a_product_of_scales_is_met_to_thirty_bits(scale: float) -> None:
    multiplier, shift = multiplier_and_shift(scale)
    assert abs(Fraction(int(multiplier), 1 << int(shift)) / Fraction(scale) - 1) <= Fraction(1, 1 << 30)


@given(st.floats(2.0**-31, 2.0**27))
def test_multipliers_are_finite_floats_where_a_step_table_holds_them(scale: float) -> None:
    multiplier, shift = multiplier_and_shift([scale] * 4)
    assert np.isfinite(multiplier.view(np.float32)).all() and np.isfinite(shift.view(np.float32)).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 2.0**28])
def test_what_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(QuantizeError, match="scale: expected"):
        multiplier_and_shift([1.0, scale])


@given(st.lists(st.integers(-(2**28), 2**28 - 1), min_size=1, max_size=8), SCALES)
def test_single_round_is_the_floor_of_a_half_more(values: list[int], scale: float) -> None:
    multiplier, shift = multiplier_and_shift(scale)
    exact = [int(np.floor(Fraction(v * int(multiplier), 1 << int(shift)) + Fraction(1, 2))) for v in values]
    assert rescale(np.array(values, np.int32), multiplier, shift).tolist() == [max(-128, min(127, v)) for v in exact]


@given(st.integers(-(2**28), 2**28 - 1), SCALES)
def test_it_is_within_one_code_of_the_other_statement(value: int, scale: float) -> None:
    ours = requantize(np.array([value], np.int32), np.float32(scale))
    theirs = rescale(np.array([value], np.int32), *multiplier_and_shift(scale))
    assert abs(int(ours[0]) - int(theirs[0])) <= 1


def test_a_value_that_is_too_large_for_the_shift_is_an_error_here_and_in_the_reference_model() -> None:
    m, s = multiplier_and_shift([0.75])
    least, most = -(1 << int(s[0]) - 1), (1 << int(s[0]) - 1) - 1
    assert rescale(np.array([least, most], np.int32), m, s).tolist() == [-128, 127]
    for value in (least - 1, most + 1):
        with pytest.raises(QuantizeError, match=r"less than 2\^\(shift - 1\)"):
            rescale(np.array([value], np.int32), m, s)
        if not MISSING:
            with pytest.raises(BuildError, match="that the reference model runs"):
                by_reference_model(lambda g, *v: g.rescale(*v, "int8"), np.array([value], np.int32), m, s)


@needs_npu_arm
@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_rescale_is_the_reference_models(rounding: Rounding, dtype: str, seed: int) -> None:
    """Values of every size, so that ties, clipping and both sides of shift 31 are among them."""
    rng = np.random.default_rng(seed)
    x = (codes(rng, 1, 257, 13, dtype=np.int32) >> rng.integers(0, 31, (1, 257, 13), dtype=np.int32)).astype(np.int32)
    multiplier, shift = multiplier_and_shift(np.exp2(rng.uniform(-33, -0.1, 13)))
    x = np.clip(x, -(1 << 28), 1 << 28).astype(np.int32)
    got = by_reference_model(lambda g, *v: g.rescale(*v, dtype, rounding), x, multiplier, shift)
    assert np.array_equal(got, rescale(x, multiplier, shift, dtype, rounding))


@needs_npu_arm
def test_ties_go_up_as_in_the_reference_model() -> None:
    x = np.arange(-9, 10, dtype=np.int32)
    m, s = multiplier_and_shift([0.5])
    got = by_reference_model(lambda g, *v: g.rescale(*v, "int8"), x, m, s)
    assert np.array_equal(got, rescale(x, m, s)) and got[x == 1] == 1 and got[x == -1] == 0


@needs_npu_arm
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_table_is_the_reference_models_for_every_code(dtype: str) -> None:
    rng, limits = np.random.default_rng(3), np.iinfo(dtype)
    x = np.arange(limits.min, limits.max + 1, dtype=dtype).reshape(1, -1)
    table = np.cumsum(rng.integers(-60, 61, 256 if dtype == "int8" else TABLE_ENTRIES))
    table = np.clip(table, limits.min, limits.max).astype(dtype)
    assert np.array_equal(by_reference_model(lambda g, a: g.table(a, g.constant(table)), x), looked_up(x, table))
