"""The schedule against improved-diffusion's code, stated again with its own indices, and against identities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.errors import ConfigError
from tvm_flow.sampler import SamplerConfig, make_schedule, respaced

STEPS = (2, 3, 10, 20, 50, 100, 1000)
ALPHA_BAR = np.cumprod(1.0 - np.array([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]))


def respaced_diffusion(steps: int) -> dict[str, np.ndarray]:
    """SpacedDiffusion and GaussianDiffusion in their order: index 0 is the cleanest step."""
    stride, at, kept = 999 / (steps - 1), 0.0, []
    for _ in range(steps):
        kept.append(round(at))
        at += stride
    last, betas = 1.0, []
    for i in kept:
        betas.append(1 - ALPHA_BAR[i] / last)
        last = ALPHA_BAR[i]
    beta = np.array(betas)
    bar = np.cumprod(1 - beta)
    previous = np.append(1.0, bar[:-1])
    posterior = beta * (1 - previous) / (1 - bar)
    return {
        "timesteps": np.array(kept),
        "alpha_bar": bar,
        "alpha_bar_next": previous,
        "beta": beta,
        "x0_of_z": np.sqrt(1 / bar),
        "x0_of_noise": np.sqrt(1 / bar - 1),
        "mean_of_x0": beta * np.sqrt(previous) / (1 - bar),
        "mean_of_z": (1 - previous) * np.sqrt(1 - beta) / (1 - bar),
        "log_variance_low": np.log(np.append(posterior[1], posterior[1:])),
        "log_variance_high": np.log(beta),
    }


@pytest.mark.parametrize("steps", STEPS)
def test_every_coefficient_is_the_originals(steps: int) -> None:
    schedule = make_schedule(steps)
    for name, want in respaced_diffusion(steps).items():
        got = getattr(schedule, name)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want[::-1], rtol=1e-12, atol=1e-12, err_msg=name)


def test_known_timesteps() -> None:
    assert respaced(1).tolist() == [0]
    assert respaced(2).tolist() == [999, 0]
    assert respaced(10).tolist() == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]
    assert respaced(1000).tolist() == list(range(999, -1, -1))
    assert respaced(100)[:4].tolist() == [999, 989, 979, 969]


@given(steps=st.integers(2, 1000))
def test_steps_fall_from_the_last_to_the_first(steps: int) -> None:
    taken = respaced(steps)
    assert (taken[0], taken[-1], len(taken)) == (999, 0, steps)
    gaps = -np.diff(taken)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_steps(steps: int) -> None:
    with pytest.raises(ConfigError, match=f"1 to 1000 steps, got {steps}"):
        respaced(steps)


class TestIdentities:
    @pytest.mark.parametrize("steps", STEPS)
    def test_posterior_is_bayes(self, steps: int) -> None:
        """q(z_next | z, x0) from conditioning one Gaussian on another, without DDPM's formula."""
        schedule = make_schedule(steps)
        for i in range(steps - 1):
            prior_variance, slope = 1 - schedule.alpha_bar_next[i], math.sqrt(1 - schedule.beta[i])
            evidence = slope**2 * prior_variance + schedule.beta[i]
            gain = prior_variance * slope / evidence
            prior_mean = math.sqrt(schedule.alpha_bar_next[i])  # of x0 = 1
            assert schedule.mean_of_z[i] == pytest.approx(gain, rel=1e-9)
            assert schedule.mean_of_x0[i] == pytest.approx(prior_mean * (1 - gain * slope), rel=1e-9)
            assert math.exp(schedule.log_variance_low[i]) == pytest.approx(
                prior_variance * (1 - gain * slope), rel=1e-9
            )

    @pytest.mark.parametrize("steps", STEPS)
    def test_a_step_keeps_the_marginal(self, steps: int) -> None:
        """From z ~ N(sqrt(a) x0, 1 - a) the posterior leads to N(sqrt(a') x0, 1 - a')."""
        s = make_schedule(steps)
        np.testing.assert_allclose(s.mean_of_x0 + s.mean_of_z * np.sqrt(s.alpha_bar), np.sqrt(s.alpha_bar_next))
        variance = np.exp(s.log_variance_low)
        variance[-1] = 0.0
        np.testing.assert_allclose(s.mean_of_z**2 * (1 - s.alpha_bar) + variance, 1 - s.alpha_bar_next, atol=1e-12)

    def test_the_learned_range_has_an_inside(self) -> None:
        s = make_schedule(100)
        assert (s.log_variance_low[:-1] < s.log_variance_high[:-1]).all()

    def test_the_last_step_lands_on_x0(self) -> None:
        s = make_schedule(20)
        assert (s.alpha_bar_next[-1], s.mean_of_z[-1]) == (1.0, 0.0)
        assert s.mean_of_x0[-1] == pytest.approx(1.0, rel=1e-12)

    def test_one_step_is_finite(self) -> None:
        s = make_schedule(1)
        for name in ("beta", "mean_of_x0", "mean_of_z", "log_variance_low", "log_variance_high"):
            assert np.isfinite(getattr(s, name)).all(), name


class TestConfig:
    @pytest.mark.parametrize("name", ["ddim", "iddpm"])
    def test_timesteps_are_the_respaced(self, name: str) -> None:
        config = SamplerConfig(name=name, steps=20)
        assert config.timesteps().dtype == np.float64
        assert config.timesteps().tolist() == respaced(20).tolist()
        with pytest.raises(ConfigError, match=f"expected 'rflow' for Euler steps, got '{name}'"):
            config.dts()

    def test_three_channels_are_guided_unless_told(self) -> None:
        assert SamplerConfig(name="ddim").guided == 3
        assert SamplerConfig(name="iddpm", guided_channels=4).guided == 4
        assert SamplerConfig(name="iddpm", guided_channels=0).guided == 0

    def test_rflow_is_written_as_before(self) -> None:
        written = SamplerConfig(steps=20, ratio=3.0).to_dict()
        assert list(written) == ["steps", "cfg_scale", "fps", "frames", "height", "width", "ratio", "name"]
        assert SamplerConfig.from_dict(written) == SamplerConfig(steps=20, ratio=3.0)

    @pytest.mark.parametrize("guided", [None, 3, 4])
    def test_dict_round_trip(self, guided: int | None) -> None:
        config = SamplerConfig(name="iddpm", steps=100, guided_channels=guided)
        assert SamplerConfig.from_dict(config.to_dict()) == config

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            ({"name": "ddim", "steps": 1001}, "1 to 1000"),
            ({"name": "ddim", "ratio": 3.0}, "ratio: expected none for ddim"),
            ({"name": "rflow", "guided_channels": 3}, "guided_channels: expected none for rflow"),
            (
                {"name": "iddpm", "guided_channels": -1},
                "guided_channels: expected a whole number from 0 to 268435456, got -1",
            ),
            ({"name": "iddpm", "guided_channels": "all"}, "guided_channels: expected a whole number"),
            ({"name": ["ddim"]}, "name"),
        ],
    )
    def test_impossible_values_are_named(self, values: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigError, match=named):
            SamplerConfig.from_dict(values)
