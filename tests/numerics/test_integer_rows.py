"""Norms and attention in integers are near the float ones, at every size of a row, and exact where they must be."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_flow.errors import QuantizeError
from tvm_flow.numerics.integer_rows import MASKED, MEAN_UNIT, Attended, attention, row_unit, unit_rows
from tvm_flow.numerics.integer_tables import ONE, UNIT, exp_table, gelu_table, reciprocal_table, root_table
from tvm_flow.numerics.rescale import looked_up
from tvm_flow.numerics.tosa_operators import NumpyOperators

OPS = NumpyOperators()


def error_of(channels: int, largest: float) -> float:
    """Half a step; the deviation has 2^-15 of the row's ``largest``, the root 2^-15 of itself."""
    return row_unit(channels) / 2 + largest * 2.0**-14


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("size", [3, 40, 5000])
@pytest.mark.parametrize("channels", [24, 96, 1152])
def test_rows_are_divided_by_their_root_mean_square(channels: int, size: int, centered: bool) -> None:
    rng = np.random.default_rng(channels)
    x = np.clip(rng.normal(size / 5, size, (33, channels)), -32768, 32767).astype(np.int16)
    d = x - centered * x.mean(-1, keepdims=True)
    exact = d / np.sqrt(np.square(d).mean(-1, keepdims=True))
    got = unit_rows(OPS, x, centered)
    assert got.dtype == np.int16
    assert np.abs(got * row_unit(channels) - exact).max() <= error_of(channels, float(np.abs(exact).max()))


def test_rows_of_any_content_stay_within_their_bits() -> None:
    """Zeros, one channel alone, the ends of the range, and what has no variance."""
    rows = np.zeros((6, 96), np.int16)
    rows[1, 5], rows[2, 5], rows[3], rows[4, ::2], rows[5, ::2] = 1, -32768, 32767, 32767, -32768
    rows[4, 1::2] = -32768
    got = unit_rows(OPS, rows, centered=True) * row_unit(96)
    assert not got[0].any() and not got[3].any()
    alone = np.sqrt(95)
    assert max(abs(got[1, 5] - alone), abs(got[2, 5] + alone)) <= error_of(96, alone)
    assert np.abs(np.abs(got[4:]) - 1).max() <= error_of(96, 1.0)


@pytest.mark.parametrize("scale", [1e-5, 3e-4, 5e-3])
@pytest.mark.parametrize("length", [1, 8, 300])
def test_attention_is_the_mean_of_v_by_softmax(length: int, scale: float) -> None:
    rng = np.random.default_rng(length)
    q, k, v = (rng.integers(-127, 128, s, dtype=np.int8) for s in ((3, 7, 24), (3, 24, length), (3, length, 24)))
    scores = (q.astype(np.float64) @ k) * scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    exact = weights / weights.sum(-1, keepdims=True) @ v
    got = attention(OPS, Attended(q, k, v), scale) * MEAN_UNIT
    # A weight is off by half a code of 255 and by 5e-4 of itself; the sum of all is at least 255 codes.
    share = (0.5 / 255 * length / weights.sum(-1, keepdims=True)).max() + 5e-4
    assert np.abs(got - exact).max() <= 2 * 127 * share + 0.01


def test_what_is_masked_has_no_weight_at_all() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(-127, 128, s, dtype=np.int8) for s in ((2, 5, 8), (2, 8, 6), (2, 6, 8)))
    mask = np.where(np.arange(6) < 4, 0, MASKED).astype(np.int32).reshape(1, 1, 6)
    masked = attention(OPS, Attended(q, k, v, mask), 1e-3)
    assert np.array_equal(masked, attention(OPS, Attended(q, k[:, :, :4], v[:, :4]), 1e-3))


def test_a_scale_that_no_mask_could_be_told_from_is_refused() -> None:
    one = np.ones((1, 1, 1), np.int8)
    with pytest.raises(QuantizeError, match=r"scores: expected a scale of 2\^-24 or more"):
        attention(OPS, Attended(one, one, one), 2.0**-25)


def test_tables_are_their_functions() -> None:
    """Within the errors that the module derives."""
    codes = np.arange(-(1 << 15), 1, dtype=np.int16)
    exact = np.exp(codes * UNIT)
    assert np.abs(looked_up(codes, exp_table()) / ONE - exact)[128:].max() <= 4.9e-4 + 1.6e-5
    assert looked_up(codes[:1], exp_table())[0] == 0
    codes = np.arange(-(1 << 15), 1 << 15).astype(np.int16)
    y = (codes / 65536.0) + 1.5
    assert np.abs(looked_up(codes, reciprocal_table()) / ONE - 1 / y).max() <= 1e-6 + 1.6e-5
    y = codes[1 << 14 :] / 16384.0 + 2
    assert np.abs(looked_up(codes[1 << 14 :], root_table()) / ONE - 1 / np.sqrt(y)).max() <= 5.8e-6 + 1.6e-5
    x = codes * UNIT
    exact = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    assert np.abs(looked_up(codes, gelu_table()) * UNIT / 128 - exact).max() <= 3.9e-4 + UNIT / 2
