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
        ({"steps": True}, "steps: expected a whole number from 1 to 65536, got True"),
        ({"steps": 1.0}, "steps: expected a whole number from 1 to 65536, got 1.0"),
        ({"steps": 65537}, "steps: expected a whole number from 1 to 65536, got 65537"),
        ({"steps": None}, "steps: expected a whole number from 1 to 65536, got None"),
        ({"frames": 3.7}, "frames: expected a whole number"),
        ({"height": 32.5}, "height: expected a whole number"),
        ({"width": 10**400}, "width: expected a whole number"),
        ({"fps": True}, "fps: expected a number above 0, at most 1e[+]06, got True"),
        ({"fps": 1e39}, "fps: expected a number above 0"),
        ({"cfg_scale": -1.0}, "cfg_scale: expected a number from 0 to 100, got -1.0"),
        ({"cfg_scale": 101}, "cfg_scale: expected a number from 0 to 100, got 101"),
        (
            {"cfg_scale": "1e1"},
            "cfg_scale: expected a number from 0 to 100, got the text '1e1'; write a number",
        ),
        ({"name": "ddim", "guided_channels": 3.0}, "guided_channels: expected a whole number"),
        ({"name": "ddim", "guided_channels": True}, "guided_channels: expected a whole number"),
        ({"name": 3}, "name: expected one of rflow, ddim, iddpm, got 3"),
        ({"ratio": "1"}, "ratio: expected a number above 0"),
        ({3: 4}, "unknown keys \\['3'\\]"),
        ({"steps": "many"}, "steps: expected a whole number from 1 to 65536, got 'many'"),
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
        ({"name": "ddim", "eta": -0.1}, "eta: expected a number from 0 to 1, got -0.1"),
        ({"name": "ddim", "eta": 1.5}, "eta: expected a number from 0 to 1, got 1.5"),
        ({"name": "ddim", "eta": float("nan")}, "eta: expected a number from 0 to 1, got nan"),
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


def test_a_constructor_refuses_what_a_file_may_not_hold() -> None:
    for wrong in ({"steps": True}, {"steps": 2.0}, {"cfg_scale": 101.0}, {"frames": "3"}):
        with pytest.raises(ConfigError, match=f"sampler: {next(iter(wrong))}: expected"):
            SamplerConfig(**wrong)  # type: ignore[arg-type]


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"steps: expected .* got 0; sampler: fps: expected .* got -1"):
        SamplerConfig(steps=0, fps=-1)


def test_a_whole_number_may_stand_for_any_number_and_stays_as_it_was_written() -> None:
    assert SamplerConfig.from_dict({"fps": 8, "cfg_scale": 100}).to_dict()["fps"] == 8
    assert type(SamplerConfig(fps=8).fps) is int


def test_guidance_may_be_off() -> None:
    assert SamplerConfig(cfg_scale=0.0).cfg_scale == 0.0


def test_configuration_is_frozen_and_hashable() -> None:
    with pytest.raises(AttributeError):
        SamplerConfig().steps = 3  # type: ignore[misc]
    assert len({SamplerConfig(), SamplerConfig()}) == 1
