"""DDIM and IDDPM against step-by-step numpy, and against models whose end is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.errors import ConfigError
from tvm_flow.model import STDiT, STDiTConfig
from tvm_flow.sampler import (
    SamplerConfig,
    ddim_step,
    guide_channels,
    iddpm_step,
    make_schedule,
    model_prediction,
    predict_x0,
    sample,
    sample_diffusion,
)

SHAPE = (2, 4, 2, 3, 3)
ALPHA_BAR = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def fresh(step: int) -> Tensor:
    return gaussian(*SHAPE, seed=100 + step)


def curved(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
    """Bounded, different for each half, and with a variance that leaves -1..1 now and then."""
    cond = torch.cat([torch.sin(z) + t / 5000, 1.2 * torch.cos(3 * z)], 1)
    return cond, torch.cat([torch.cos(z) * (step + 1) / 20, torch.sin(2 * z)], 1)


def curved_by_hand(z: np.ndarray, step: int, t: float, scale: float, guided: int) -> tuple[np.ndarray, np.ndarray]:
    """forward_with_cfg for the conditional half: (noise, variance)."""
    cond, uncond = np.sin(z) + t / 5000, np.cos(z) * (step + 1) / 20
    noise = cond.copy()
    noise[:, :guided] = uncond[:, :guided] + scale * (cond[:, :guided] - uncond[:, :guided])
    return noise, 1.2 * np.cos(3 * z)


def timesteps(steps: int) -> list[int]:
    return [round(i * 999 / (steps - 1)) for i in range(steps)][::-1]


def by_hand(name: str, z: np.ndarray, step: int, config: SamplerConfig) -> np.ndarray:
    """z after one step, from alpha_bar alone: DDIM as diffusers has it, IDDPM as improved-diffusion has it."""
    grid = timesteps(config.steps)
    noise, variance = curved_by_hand(z, step, grid[step], config.cfg_scale, config.guided)
    last = step == config.steps - 1
    a, b = ALPHA_BAR[grid[step]], 1.0 if last else ALPHA_BAR[grid[step + 1]]
    x0 = (z - math.sqrt(1 - a) * noise) / math.sqrt(a)
    if name == "ddim":
        return math.sqrt(b) * x0 + math.sqrt(1 - b) * noise
    alpha = a / b
    mean = math.sqrt(b) * (1 - alpha) / (1 - a) * x0 + math.sqrt(alpha) * (1 - b) / (1 - a) * z
    if last:
        return mean
    low, high = math.log((1 - alpha) * (1 - b) / (1 - a)), math.log(1 - alpha)
    share = (variance + 1) / 2
    return mean + np.exp(0.5 * (share * high + (1 - share) * low)) * fresh(step).numpy()


@pytest.mark.parametrize("name", ["ddim", "iddpm"])
@pytest.mark.parametrize(("steps", "scale", "guided"), [(20, 7.0, 3), (100, 4.0, 3), (7, 1.5, 4), (2, 7.0, 0)])
def test_every_step_is_the_statement(name: str, steps: int, scale: float, guided: int) -> None:
    start = gaussian(*SHAPE)
    config = SamplerConfig(name=name, steps=steps, cfg_scale=scale, guided_channels=guided)
    seen: list[Tensor] = []

    def spy(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        seen.append(z)
        return curved(z, step, t)

    end = sample_diffusion(spy, start, config, fresh)
    assert end.dtype == torch.float64
    assert len(seen) == steps
    # Each step from the loop's own z: this model is chaotic, and would blow rounding up over many steps.
    for step, (before, after) in enumerate(zip(seen, [*seen[1:], end], strict=True)):
        want = by_hand(name, before.numpy(), step, config)
        # z is a difference of x0 and noise, and x0 up to 150 times as large: rounding is that of the largest.
        np.testing.assert_allclose(after.numpy(), want, rtol=1e-12, atol=1e-12 * max(1.0, np.abs(want).max()))


class TestOracle:
    """A model that knows the noise: z = sqrt(a) x0 + sqrt(1 - a) noise at the first step."""

    x0, noise = gaussian(*SHAPE, seed=1), gaussian(*SHAPE, seed=2)

    @pytest.mark.parametrize("steps", [1, 2, 20, 100])
    def test_ddim_recovers_x0(self, steps: int) -> None:
        a = float(make_schedule(steps).alpha_bar[0])
        start = math.sqrt(a) * self.x0 + math.sqrt(1 - a) * self.noise
        both = torch.cat([self.noise, torch.zeros_like(self.noise)], 1)
        end = sample_diffusion(lambda *_: (both, both), start, SamplerConfig(name="ddim", steps=steps))
        torch.testing.assert_close(end, self.x0, rtol=0, atol=1e-10)

    def test_ddim_stays_on_the_line(self) -> None:
        schedule = make_schedule(20)
        for step in range(20):
            a, b = float(schedule.alpha_bar[step]), float(schedule.alpha_bar_next[step])
            z = math.sqrt(a) * self.x0 + math.sqrt(1 - a) * self.noise
            want = math.sqrt(b) * self.x0 + math.sqrt(1 - b) * self.noise
            torch.testing.assert_close(ddim_step(z, self.noise, schedule, step), want, rtol=0, atol=1e-12)
            torch.testing.assert_close(predict_x0(z, self.noise, schedule, step), self.x0, rtol=0, atol=1e-11)

    def test_iddpm_recovers_x0_whatever_is_drawn(self) -> None:
        """The noise is told from z at every step, so that the last mean is x0."""
        schedule = make_schedule(50)

        def knows(z: Tensor, step: int, _t: float) -> tuple[Tensor, Tensor]:
            a = float(schedule.alpha_bar[step])
            noise = (z - math.sqrt(a) * self.x0) / math.sqrt(1 - a)
            both = torch.cat([noise, torch.zeros_like(noise)], 1)
            return both, both

        end = sample_diffusion(knows, gaussian(*SHAPE), SamplerConfig(name="iddpm", steps=50), fresh)
        torch.testing.assert_close(end, self.x0, rtol=0, atol=1e-10)

    @pytest.mark.parametrize(("variance", "name"), [(-1.0, "log_variance_low"), (1.0, "log_variance_high")])
    def test_iddpm_variance_ends(self, variance: float, name: str) -> None:
        schedule = make_schedule(20)
        z, v = gaussian(*SHAPE), torch.full(SHAPE, variance, dtype=torch.float64)
        mean = iddpm_step(z, self.noise, v, torch.zeros_like(z), schedule, 5)
        drawn = iddpm_step(z, self.noise, v, torch.ones_like(z), schedule, 5)
        want = math.exp(0.5 * getattr(schedule, name)[5])
        torch.testing.assert_close(drawn - mean, torch.full_like(z, want), rtol=0, atol=1e-12)

    def test_iddpm_keeps_unit_gaussians(self) -> None:
        """For data that is itself unit Gaussian the best noise is sqrt(1 - a) z; z stays unit Gaussian."""
        schedule, z = make_schedule(100), gaussian(200_000)
        for step in range(5):
            a, b = float(schedule.alpha_bar[step]), float(schedule.alpha_bar_next[step])
            # Of this posterior the variance is 1 - a / b, the upper end of the learned range.
            one = torch.ones_like(z)
            z = iddpm_step(z, math.sqrt(1 - a) * z, one, gaussian(200_000, seed=9 + step), schedule, step)
            assert b > a
            assert float(z.mean()) == pytest.approx(0.0, abs=0.02)
            assert float(z.var()) == pytest.approx(1.0, abs=0.02)


class TestGuidance:
    def test_only_the_first_channels_are_guided(self) -> None:
        cond, uncond = gaussian(2, 8, 1, 2, 2), gaussian(2, 8, 1, 2, 2, seed=1)
        got = guide_channels(cond, uncond, 7.0, 3)
        torch.testing.assert_close(got[:, :3], uncond[:, :3] + 7 * (cond[:, :3] - uncond[:, :3]))
        assert torch.equal(got[:, 3:], cond[:, 3:])

    def test_the_default_leaves_the_fourth_channel_alone(self) -> None:
        """Whatever the unconditional half says of channel 4 and of the variance is not looked at."""

        def other(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
            cond, uncond = curved(z, step, t)
            return cond, torch.cat([uncond[:, :3], torch.full_like(uncond[:, 3:], 1e6)], 1)

        config = SamplerConfig(name="iddpm", steps=10)
        start = gaussian(*SHAPE)
        got, want = (sample_diffusion(model, start, config, fresh) for model in (other, curved))
        assert torch.equal(got, want)


class TestLoop:
    def test_float32_stays_close(self) -> None:
        config = SamplerConfig(name="ddim", steps=20, cfg_scale=2.0)
        start = gaussian(*SHAPE)
        want = sample_diffusion(curved, start, config)
        got = sample_diffusion(curved, start.float(), config)
        assert got.dtype == torch.float32
        assert float((got - want).abs().max() / want.abs().max()) < 1e-3

    def test_progress_timesteps_and_noise_calls(self) -> None:
        done: list[tuple[int, int]] = []
        times: list[float] = []
        drawn: list[int] = []

        def spy(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
            times.append(t)
            return curved(z, step, t)

        config = SamplerConfig(name="iddpm", steps=4)
        start = gaussian(*SHAPE)
        before = start.clone()
        sample_diffusion(spy, start, config, lambda i: (drawn.append(i), fresh(i))[1], lambda *d: done.append(d))
        assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert times == [999.0, 666.0, 333.0, 0.0]
        assert drawn == [0, 1, 2]
        assert torch.equal(start, before)

    def test_what_is_refused(self) -> None:
        z = gaussian(*SHAPE)
        with pytest.raises(ConfigError, match="use sample"):
            sample_diffusion(curved, z, SamplerConfig())
        with pytest.raises(ConfigError, match="pass noise"):
            sample_diffusion(curved, z, SamplerConfig(name="iddpm"))
        with pytest.raises(ConfigError, match="keep noise and variance"):
            sample_diffusion(lambda z, *_: (z, z), z, SamplerConfig(name="ddim"))
        with pytest.raises(ConfigError, match="noise at step 0"):
            sample_diffusion(curved, z, SamplerConfig(name="iddpm"), lambda _: z[:1])
        with pytest.raises(ConfigError, match="use sample_diffusion"):
            sample(lambda z, *_: (z, z), z, SamplerConfig(name="ddim"))


def test_the_float_model_predicts_both_halves() -> None:
    torch.manual_seed(0)
    config = STDiTConfig(depth=1, hidden=16, heads=2, in_channels=4, caption_channels=6, model_max_length=4)
    model = STDiT(config).eval()
    z, y = gaussian(2, 4, 2, 4, 4, dtype=torch.float32), gaussian(2, 4, 6, dtype=torch.float32)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    predict = model_prediction(model, y, mask)
    cond, uncond = predict(z, 0, 640.0)
    with torch.no_grad():
        t = torch.full((2,), 640.0)
        torch.testing.assert_close(cond, model(z, t, y, mask))
        torch.testing.assert_close(uncond, model(z, t, model.null_caption(2), mask))
    assert not cond.requires_grad
    end = sample_diffusion(predict, z, SamplerConfig(name="ddim", steps=3, cfg_scale=4.0))
    assert end.shape == z.shape
    assert bool(end.isfinite().all())
