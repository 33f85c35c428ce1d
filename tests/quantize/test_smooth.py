"""Smoothing factors and activation scales: formulas, guards, and soundness on random data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvm_flow.calibrate import LayerRanges
from tvm_flow.errors import QuantizeError
from tvm_flow.numerics import dequantize, quantize
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.smooth import activation_scales, smoothing_gain

SIZE = 6
magnitudes = hnp.arrays(np.float32, SIZE, elements=st.floats(2**-7, 2**7, width=32))
maybe_zero = hnp.arrays(np.float32, SIZE, elements=st.just(0.0) | st.floats(2**-10, 2**10, width=32))
alphas = st.floats(0, 1)


@given(magnitudes, magnitudes, alphas)
def test_gain_is_one_over_the_paper_s_factor_up_to_a_common_one(x: np.ndarray, w: np.ndarray, alpha: float) -> None:
    gain = smoothing_gain(x, w, alpha).astype(np.float64)
    s = x.astype(np.float64) ** alpha / w.astype(np.float64) ** (1 - alpha)
    ratio = gain * s
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert abs(np.log(gain).mean()) < 1e-6


@given(maybe_zero, maybe_zero, alphas)
def test_zeros_never_give_zero_or_infinity(x: np.ndarray, w: np.ndarray, alpha: float) -> None:
    gain = smoothing_gain(x, w, alpha)
    assert gain.dtype == np.float32 and np.isfinite(gain).all() and (gain > 0).all()
    assert (gain[x == 0] == 1).all()


def test_nothing_live_means_no_smoothing() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert smoothing_gain(zero, one, 0.5).tolist() == smoothing_gain(one, zero, 0.5).tolist() == [1, 1, 1]


def test_half_balances_activations_and_weights() -> None:
    x, w = np.float32([100, 1]), np.float32([1, 1])
    gain = smoothing_gain(x, w, 0.5)
    np.testing.assert_allclose(x * gain, w / gain * (x * gain)[0] / (w / gain)[0], rtol=1e-6)
    np.testing.assert_allclose(smoothing_gain(x, w, 1.0) * x, 10, rtol=1e-6)
    np.testing.assert_allclose(smoothing_gain(x, w, 0.0), 1, rtol=1e-6)


def test_factors_beyond_float32_are_refused() -> None:
    x = np.float32([1e-38] * 999 + [3e38])
    with pytest.raises(QuantizeError, match=r"expected factors within float32, got 1/s from .* lower smoothing.alpha"):
        smoothing_gain(x, np.ones(1000, np.float32), 1.0)


# activation scales

values = st.floats(-(2**10), 2**10, width=32, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-20)
data = hnp.arrays(np.float32, (3, 2, 9, SIZE), elements=values)


def ranges_of(x: np.ndarray) -> LayerRanges:
    return LayerRanges(x.min((2, 3)), x.max((2, 3)), np.abs(x).max(2))


@given(
    data,
    st.none() | magnitudes,
    st.sampled_from(["symmetric", "asymmetric"]),
    st.sampled_from(["per_step", "all_steps"]),
    st.sampled_from(["separate", "shared"]),
)
def test_nothing_that_was_calibrated_saturates_by_more_than_half_a_step(
    x: np.ndarray, gain: np.ndarray | None, activation: str, joined: str, branches: str
) -> None:
    recipe = Recipe(activation=activation, ranges=joined, branches=branches)
    scale, zero = activation_scales(ranges_of(x), gain, recipe)
    assert scale.shape == (3, 2) and scale.dtype == np.float32
    assert (zero is None) == (activation == "symmetric")
    for step, branch in np.ndindex(3, 2):
        z = 0 if zero is None else int(zero[step, branch])
        smoothed = x[step, branch] if gain is None else x[step, branch] * gain
        back = dequantize(quantize(smoothed, scale[step, branch], z), scale[step, branch], z)
        assert (np.abs(back - smoothed) <= scale[step, branch] * 0.501).all()


@given(data, magnitudes)
def test_symmetric_scale_is_the_greatest_smoothed_channel_over_127(x: np.ndarray, gain: np.ndarray) -> None:
    scale, _ = activation_scales(ranges_of(x), gain, Recipe())
    greatest = (np.abs(x).max(2).astype(np.float64) * gain).max(-1)
    np.testing.assert_allclose(scale, np.where(greatest == 0, 1, greatest / 127), rtol=1e-6)


@given(data)
def test_joined_axes_share_the_widest_scale(x: np.ndarray) -> None:
    apart, _ = activation_scales(ranges_of(x), None, Recipe())
    asq, _ = activation_scales(ranges_of(x), None, Recipe(ranges="all_steps"))
    shared, _ = activation_scales(ranges_of(x), None, Recipe(branches="shared"))
    one, _ = activation_scales(ranges_of(x), None, Recipe(ranges="all_steps", branches="shared"))
    assert (asq == asq[:1]).all() and (shared == shared[:, :1]).all() and (one == one[0, 0]).all()
    live = np.abs(x).max((2, 3)) > 0
    assert (asq >= apart)[live].all() and (shared >= apart)[live].all() and (one >= asq)[live].all()


@given(data, st.sampled_from(["symmetric", "asymmetric"]), st.sampled_from(["separate", "shared"]))
def test_a_timeless_input_has_one_scale_a_branch_whatever_the_recipe(x: np.ndarray, activation: str, how: str) -> None:
    scale, zero = activation_scales(ranges_of(x), None, Recipe(activation=activation, branches=how), timeless=True)
    wanted = activation_scales(ranges_of(x), None, Recipe(activation=activation, branches=how, ranges="all_steps"))
    assert (scale == scale[:1]).all() and (scale == wanted[0]).all()
    assert zero is None or (wanted[1] is not None and (zero == wanted[1]).all() and (zero == zero[:1]).all())


def test_one_sided_ranges_use_all_of_int8_when_asymmetric() -> None:
    x = np.random.default_rng(0).uniform(0, 4, (3, 2, 50, SIZE)).astype(np.float32)
    scale, zero = activation_scales(ranges_of(x), None, Recipe(activation="asymmetric"))
    assert zero is not None and zero.dtype == np.int8 and (zero == -128).all()
    np.testing.assert_allclose(scale, x.max((2, 3)) / 255, rtol=1e-6)


def test_zero_ranges_have_scale_one() -> None:
    scale, zero = activation_scales(ranges_of(np.zeros((3, 2, 4, SIZE), np.float32)), None, Recipe())
    assert (scale == 1).all() and zero is None
