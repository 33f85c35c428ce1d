"""The reference's convolution: float64's value, and a bound that single precision keeps in any order of summation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.errors import BitExactError
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.convolution import conv2d, padded, require_plain


def float32(value: Any) -> Any:
    return np.asarray(value, np.float32)


class TestConv2d:
    @given(
        sizes=st.tuples(*[st.integers(1, 3)] * 2, st.integers(1, 5), *[st.integers(3, 7)] * 2),
        kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        seed=st.integers(0, 1000),
    )
    def test_value_and_bound(self, sizes: tuple[int, ...], kernel: tuple[int, int], seed: int) -> None:
        count, channels, outputs, height, width = sizes
        rng = np.random.default_rng(seed)
        x = float32(rng.standard_normal((count, channels, height, width)) * 10.0 ** rng.integers(-3, 4))
        w = float32(rng.standard_normal((outputs, channels, *kernel)))
        got = conv2d(Bounded.exact(x), Bounded.exact(w))
        exact = torch.nn.functional.conv2d(torch.from_numpy(x).double(), torch.from_numpy(w).double()).numpy()
        np.testing.assert_allclose(got.value, exact, rtol=1e-12, atol=1e-12 * np.abs(exact).max())
        single = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
        assert got.error.shape == single.shape
        assert (np.abs(single - exact) <= got.error).all()
        most = 4 * channels * kernel[0] * kernel[1] * 2.0**-24 * np.abs(x).max() * np.abs(w).max()
        assert (got.error <= most * channels * kernel[0] * kernel[1] + 1e-37).all(), "no bound for its own sake"

    def test_doubt_of_inputs_is_carried(self) -> None:
        x, w = np.ones((1, 1, 2, 2)), np.full((1, 1, 2, 2), 3.0)
        plain = conv2d(Bounded.exact(x), Bounded.exact(w))
        doubtful = conv2d(Bounded(x, np.full_like(x, 0.5)), Bounded(w, np.full_like(w, 0.25)))
        assert plain.value == doubtful.value == 12.0
        assert 4 * (0.5 * 3.25 + 0.25) <= doubtful.error - plain.error <= 4 * (0.5 * 3.25 + 0.25 * 1.5) * 1.001

    def test_images_do_not_mix(self) -> None:
        x, w = np.random.default_rng(0).standard_normal((3, 2, 4, 4)), np.ones((1, 2, 3, 3))
        whole = conv2d(Bounded.exact(x), Bounded.exact(w)).value
        for k in range(3):
            assert whole[k : k + 1].tobytes() == conv2d(Bounded.exact(x[k : k + 1]), Bounded.exact(w)).value.tobytes()


PLAIN: dict[str, Any] = {
    **{"strides": [1, 1], "dilation": [1, 1], "padding": [0] * 4, "groups": 1},
    **{"data_layout": "NCHW", "kernel_layout": "OIHW", "out_layout": "NCHW"},
}


class TestAttributes:
    def test_plain_is_known(self) -> None:
        require_plain(SimpleNamespace(**PLAIN))

    @pytest.mark.parametrize(
        "other",
        [{"strides": [2, 1]}, {"dilation": [1, 2]}, {"padding": [1] * 4}, {"groups": 2}, {"data_layout": "NHWC"}],
    )
    def test_others_are_refused(self, other: dict[str, Any]) -> None:
        with pytest.raises(BitExactError, match="conv2d: expected"):
            require_plain(SimpleNamespace(**PLAIN | other))


def pad(value: float, mode: str = "constant") -> Any:
    return SimpleNamespace(attrs=SimpleNamespace(pad_width=[0, 0, 1, 2], pad_value=value, pad_mode=mode))


class TestPad:
    def test_zeros_around(self) -> None:
        assert padded(pad(0.0), np.ones((2, 1))).tolist() == [[0, 1, 0, 0]] * 2

    @pytest.mark.parametrize("expr", [pad(1.0), pad(0.0, "reflect")])
    def test_others_are_refused(self, expr: Any) -> None:
        with pytest.raises(BitExactError, match="pad: expected zeros"):
            padded(expr, np.ones((2, 1)))
