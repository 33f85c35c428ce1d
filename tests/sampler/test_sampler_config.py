"""The step grid against Open-Sora's formulas, stated again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.errors import ConfigError
from tvm_flow.sampler import SamplerConfig


def by_hand(steps: int, ratio: float) -> list[float]:
    grid = []
    for i in range(steps):
        t = (1 - i / steps) * 1000 / 1000
        grid.append(1000 * ratio * t / (1 + (ratio - 1) * t))
    return grid


@pytest.mark.parametrize(
    ("frames", "height", "width", "ratio"),
    [
        (51, 240, 426, math.sqrt(240 * 426 / 512**2) * math.sqrt(15)),
        (102, 720, 1280, math.sqrt(720 * 1280 / 512**2) * math.sqrt(30)),
        (17, 512, 512, math.sqrt(5)),
        (1, 256, 256, 0.5),
        (16, 512, 512, 1.0),
    ],
)
def test_open_sora_ratio(frames: int, height: int, width: int, ratio: float) -> None:
    config = SamplerConfig(frames=frames, height=height, width=width)
    assert config.timestep_ratio == pytest.approx(ratio, rel=1e-12)
    np.testing.assert_allclose(config.timesteps(), by_hand(30, ratio), rtol=1e-12)


def test_explicit_ratio_wins() -> None:
    config = SamplerConfig(steps=20, frames=8, height=32, width=32, ratio=3.0)
    np.testing.assert_allclose(config.timesteps(), by_hand(20, 3.0), rtol=1e-12)
    assert config.timesteps()[10] == pytest.approx(750.0)


def test_ratio_one_is_the_even_grid() -> None:
    np.testing.assert_allclose(SamplerConfig(steps=4, ratio=1.0).timesteps(), [1000, 750, 500, 250])


@given(steps=st.integers(1, 200), ratio=st.floats(0.05, 20))
def test_grid_falls_and_its_steps_add_up(steps: int, ratio: float) -> None:
    config = SamplerConfig(steps=steps, ratio=ratio)
    t, dt = config.timesteps(), config.dts()
    assert t.dtype == dt.dtype == np.float64
    assert t.shape == dt.shape == (steps,)
    assert t[0] == pytest.approx(1000.0)
    assert (dt > 0).all()
    assert dt.sum() == pytest.approx(1000.0)
    np.testing.assert_allclose(t - dt, [*t[1:], 0.0], atol=1e-9)


def test_another_size_is_another_grid() -> None:
    base = SamplerConfig()
    for change in ({"height": 480}, {"frames": 102}, {"steps": 29}):
        other = SamplerConfig(**{**base.to_dict(), **change})
        assert other != base
        assert other.timesteps().tolist() != base.timesteps().tolist()


def test_dict_round_trip() -> None:
    config = SamplerConfig(steps=20, cfg_scale=3.0, fps=8.0, frames=8, height=32, width=32, ratio=3.0)
    assert SamplerConfig.from_dict(config.to_dict()) == config
    assert SamplerConfig.from_dict({}) == SamplerConfig()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "euler"}, "rflow, ddim, iddpm, got 'euler'"),
        ({"steps": 0}, "steps"),
        ({"frames": -1}, "frames"),
        ({"height": 0}, "height"),
        ({"fps": 0.0}, "fps"),
        ({"cfg_scale": float("nan")}, "cfg_scale"),
        ({"ratio": float("inf")}, "ratio"),
        ({"ratio": -1.0}, "ratio"),
        ({"stepz": 3}, "stepz"),
        ({"steps": "many"}, "type"),
    ],
)
def test_impossible_values_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SamplerConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "rflow", "eta": 0.0}, "eta: expected none for rflow"),
        ({"name": "iddpm", "eta": 0.5}, "eta: expected none for iddpm"),
        ({"name": "ddim", "eta": -0.1}, "eta: expected 0 to 1, got -0.1"),
        ({"name": "ddim", "eta": 1.5}, "eta: expected 0 to 1, got 1.5"),
        ({"name": "ddim", "eta": float("nan")}, "eta: expected 0 to 1, got nan"),
        ({"name": "ddim", "ratio": 2.0}, "ratio: expected none for ddim"),
    ],
)
def test_eta_is_for_ddim(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SamplerConfig.from_dict(values)


@pytest.mark.parametrize("config", [SamplerConfig(), SamplerConfig(name="iddpm"), SamplerConfig(name="ddim", eta=0.5)])
def test_other_samplers_round_trip(config: SamplerConfig) -> None:
    assert SamplerConfig.from_dict(config.to_dict()) == config


def test_keys_of_older_files() -> None:
    """What is not given is not written, so that a file of before eta is still of the same sampler."""
    rflow = {"steps", "cfg_scale", "fps", "frames", "height", "width", "ratio", "name"}
    assert set(SamplerConfig().to_dict()) == rflow
    assert set(SamplerConfig(name="ddim").to_dict()) == rflow | {"guided_channels"}
    assert set(SamplerConfig(name="ddim", eta=1.0).to_dict()) == rflow | {"guided_channels", "eta"}


def test_guided_channels_of_a_latent() -> None:
    assert SamplerConfig().guided_of(6) == 6
    assert SamplerConfig(name="iddpm").guided_of(4) == 3
    assert SamplerConfig(name="ddim", guided_channels=0).guided_of(4) == 0
    with pytest.raises(ConfigError, match="expected at most the 2 channels of the latent, got 3"):
        SamplerConfig(name="ddim").guided_of(2)


def test_guidance_may_be_off() -> None:
    assert SamplerConfig(cfg_scale=0.0).cfg_scale == 0.0


def test_configuration_is_frozen_and_hashable() -> None:
    with pytest.raises(AttributeError):
        SamplerConfig().steps = 3  # type: ignore[misc]
    assert len({SamplerConfig(), SamplerConfig()}) == 1
