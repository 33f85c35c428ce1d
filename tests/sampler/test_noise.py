"""Seeded noise: unit Gaussian, reproducible, and the inverse that Python's statistics has too."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.sampler import seeded_noise
from tvm_flow.sampler.noise import GOLDEN, logarithm, normal_quantile

FINEST = 2.0**-33


@given(st.floats(FINEST, 1 - FINEST))
def test_quantile_is_as_241(u: float) -> None:
    """statistics.NormalDist is another statement of the same algorithm, with libm's logarithm."""
    got = float(normal_quantile(np.array([u]))[0])
    assert got == pytest.approx(NormalDist().inv_cdf(u), rel=1e-11, abs=1e-15)


@given(st.floats(1e-300, 1e300))
def test_logarithm(x: float) -> None:
    assert float(logarithm(np.array([x]))[0]) == pytest.approx(math.log(x), rel=1e-13, abs=1e-13)


def test_uniforms_are_splitmix64() -> None:
    """The generator stated with Python's whole numbers."""

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    assert mix(GOLDEN) == 0xE220A8397B1DCDAF  # SplitMix64's first number for the seed 0
    key = mix((17 + 5 * GOLDEN) % 2**64)
    us = [((mix((key + (i + 1) * GOLDEN) % 2**64) >> 32) + 0.5) / 2**32 for i in range(6)]
    np.testing.assert_array_equal(seeded_noise(17, 5, (2, 3)).ravel(), normal_quantile(np.array(us)).astype(np.float32))


def test_unit_gaussian_and_independent() -> None:
    n = 200_000
    streams = [seeded_noise(seed, stream, (n,)).astype(np.float64) for seed in (0, 1) for stream in (0, 1, 2)]
    for x in streams:
        assert abs(x.mean()) < 5 / math.sqrt(n)
        assert abs(x.var() - 1) < 5 * math.sqrt(2 / n)
        assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / n)
        assert abs((x[1:] * x[:-1]).mean()) < 5 / math.sqrt(n)
    products = np.corrcoef(streams)[np.triu_indices(6, 1)]
    assert np.abs(products).max() < 5 / math.sqrt(n)


def test_a_longer_row_starts_like_a_shorter_one() -> None:
    np.testing.assert_array_equal(seeded_noise(2, 3, (10,)), seeded_noise(2, 3, (4, 5)).ravel()[:10])
    assert (seeded_noise(2, 3, (10,)) != seeded_noise(2, 4, (10,))).all()
    assert (seeded_noise(2, 3, (10,)) != seeded_noise(3, 3, (10,))).all()


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**64 - 1])
def test_any_seed(seed: int) -> None:
    assert np.isfinite(seeded_noise(seed, 2**32, (50,))).all()
