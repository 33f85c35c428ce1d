"""The constants of every step, and the formula that uses them, against the float64 references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tvm_flow.sampler import (
    Guidance,
    SamplerConfig,
    ddim_step,
    denoise,
    drawn_from,
    guide_channels,
    iddpm_step,
    make_schedule,
    next_latent,
    seeded_noise,
    step_updates,
)
from tvm_flow.sampler.update import LARGEST_EXPONENT, SIGMA, exponential

SHAPE = (4, 2, 3, 5)
TOLERANCE = 1e-6
"""The last rounding to float32 is 2^-24 |z'|, which stays below this while |z'| <= 16; see tvm_flow.sampler.update."""
CONFIGS = [
    SamplerConfig(steps=30),
    SamplerConfig(steps=4, ratio=3.0),
    SamplerConfig(name="ddim", steps=20),
    SamplerConfig(name="ddim", steps=3, guided_channels=4),
    SamplerConfig(name="ddim", steps=20, eta=0.7),
    SamplerConfig(name="ddim", steps=50, eta=1.0),
    SamplerConfig(name="iddpm", steps=100),
    SamplerConfig(name="iddpm", steps=5),
    SamplerConfig(name="iddpm", steps=1),
]


def outputs(config: SamplerConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 predictions of both branches; the variance half leaves -1..1."""
    channels = (2 if config.learned_variance else 1) * SHAPE[0]
    random = np.random.default_rng(seed)
    cond = random.standard_normal((channels, *SHAPE[1:]))
    # As trained models have them: the branches differ by less than the prediction, and cfg does not blow it up.
    return cond.astype(np.float32), (cond + 0.1 * random.standard_normal(cond.shape)).astype(np.float32)


def reference(
    config: SamplerConfig, step: int, z: np.ndarray, both: tuple[np.ndarray, ...], fresh: np.ndarray
) -> Tensor:
    """One step of the float64 reference, from float32 inputs."""
    c, u, at, drawn = (torch.from_numpy(x.astype(np.float64))[None] for x in (*both, z, fresh))
    if config.name == "rflow":
        return at + (u + config.cfg_scale * (c - u)) * (config.dts()[step] / 1000)
    guided, schedule = guide_channels(c, u, config.cfg_scale, config.guided), make_schedule(config.steps)
    noise, variance = guided[:, : SHAPE[0]], guided[:, SHAPE[0] :]
    if config.name == "ddim":
        return ddim_step(at, noise, schedule, step, config.noise_share, drawn)
    return iddpm_step(at, noise, variance, drawn, schedule, step)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.steps}-{c.eta}")
def test_every_step_is_the_reference(config: SamplerConfig) -> None:
    rows = step_updates(config)
    assert rows.shape == (config.steps, 5) and np.isfinite(rows).all()
    guidance = Guidance(config.cfg_scale, config.guided_of(SHAPE[0]))
    for step, row in enumerate(rows):
        z, fresh = seeded_noise(step, 0, SHAPE), seeded_noise(step, 1, SHAPE)
        both = outputs(config, step)
        want = reference(config, step, z, both, fresh)[0].numpy()
        got = next_latent(z, both, row, guidance, fresh if row[SIGMA] else None)
        assert got.dtype == np.float32
        assert np.abs(got - want).max() <= TOLERANCE * max(1.0, np.abs(want).max() / 16)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.steps}-{c.eta}")
def test_noise_is_drawn_where_the_sampler_says(config: SamplerConfig) -> None:
    drawn = step_updates(config)[:, SIGMA] != 0
    assert not drawn[-1]
    assert drawn[:-1].all() if config.draws_noise else not drawn.any()


def test_single_precision_would_not_do() -> None:
    """Three steps of ddim: the constants cancel, and their rounding alone is above the tolerance."""
    config = SamplerConfig(name="ddim", steps=3)
    row = step_updates(config)[0]
    assert row[0] > 40 and row[1] < -40
    z = seeded_noise(0, 0, SHAPE)
    exact = row[0] * z.astype(np.float64) + row[1] * z
    single = np.float32(row[0]) * z + np.float32(row[1]) * z
    assert np.abs(single - exact).max() > TOLERANCE


def test_without_an_unconditional_branch_nothing_is_guided() -> None:
    config = SamplerConfig(name="ddim", steps=5)
    (cond, uncond), z, row = outputs(config, 1), seeded_noise(0, 0, SHAPE), step_updates(config)[2]
    alone = next_latent(z, (cond,), row, Guidance(7.0, 4))
    np.testing.assert_array_equal(alone, next_latent(z, (cond, uncond), row, Guidance(7.0, 0)))
    guided = next_latent(z, (cond, uncond), row, Guidance(7.0, 3))
    np.testing.assert_array_equal(guided[3:], alone[3:])
    assert (guided[:3] != alone[:3]).any()


@given(st.lists(st.floats(-LARGEST_EXPONENT, LARGEST_EXPONENT), min_size=1, max_size=20))
def test_exponential(values: list[float]) -> None:
    got = exponential(np.array(values))
    for x, y in zip(values, got.tolist(), strict=True):
        assert abs(y - math.exp(x)) <= 1e-14 * math.exp(x) * max(1.0, abs(x) / 64)


def test_exponential_stays_finite_and_exact_at_its_ends() -> None:
    got = exponential(np.array([-1e308, -1e4, 0.0, 1e4, 1e308]))
    assert np.isfinite(got).all() and got[2] == 1.0
    assert got[0] == got[1] == exponential(np.array([-LARGEST_EXPONENT]))[0]
    assert got[3] == got[4] == exponential(np.array([LARGEST_EXPONENT]))[0]


@pytest.mark.parametrize("name", ["rflow", "ddim", "iddpm"])
def test_denoise_runs_the_sampler_that_is_named(name: str) -> None:
    config = SamplerConfig(name=name, steps=4, cfg_scale=2.0)

    def predict(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        cond = torch.cat([torch.sin(z) + t / 5000, torch.cos(3 * z)], 1)
        return cond, cond * (0.9 - step / 10)

    z, rows = seeded_noise(3, 0, SHAPE), step_updates(config)
    got = denoise(predict, torch.from_numpy(z)[None].double(), config, drawn_from(3, SHAPE))[0].numpy()
    for step, t in enumerate(config.timesteps().tolist()):
        pair = [x[0].float().numpy() for x in predict(torch.from_numpy(z)[None], step, t)]
        kept = tuple(pair) if config.learned_variance else tuple(x[: SHAPE[0]] for x in pair)
        fresh = seeded_noise(3, step + 1, SHAPE) if rows[step, SIGMA] else None
        z = next_latent(z, kept, rows[step], Guidance(2.0, config.guided_of(SHAPE[0])), fresh)
    # Float32 predictions of a chaotic model: their rounding grows from step to step.
    np.testing.assert_allclose(z, got, rtol=1e-3, atol=1e-3)
