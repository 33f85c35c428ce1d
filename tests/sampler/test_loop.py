"""The loop against a float64 loop in numpy, and against flows with a known end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tvm_flow.errors import ConfigError
from tvm_flow.model import STDiT3, STDiT3Config, Video
from tvm_flow.sampler import SamplerConfig, guide, model_velocity, sample

CONFIG = SamplerConfig(steps=12, cfg_scale=2.5, fps=8.0, frames=2, height=32, width=32, ratio=3.0)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def curved(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
    return torch.sin(z) + t / 1000, torch.cos(z) * (step + 1) / 10


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loop_is_guided_euler(dtype: torch.dtype) -> None:
    start = noise(2, 3, 2, 4, 4, dtype=dtype)
    z = start.double().numpy()
    grid = [1000 * 3 * u / (1 + 2 * u) for u in (1 - i / 12 for i in range(12))] + [0.0]
    for i in range(12):
        cond, uncond = np.sin(z) + grid[i] / 1000, np.cos(z) * (i + 1) / 10
        z = z + (uncond + 2.5 * (cond - uncond)) * (grid[i] - grid[i + 1]) / 1000
    got = sample(curved, start, CONFIG)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.numpy(), z, atol=1e-12 if dtype == torch.float64 else 1e-5)


def test_straight_flow_ends_at_the_data() -> None:
    """With velocity = data - noise, any grid must land on the data exactly: the steps sum to one."""
    start, data = noise(1, 2, 2, 4, 4), noise(1, 2, 2, 4, 4, seed=1)
    for steps in (1, 7, 30):
        config = SamplerConfig(steps=steps, ratio=2.2)
        end = sample(lambda *_: (data - start, data - start), start, config)
        torch.testing.assert_close(end, data)


def test_guide() -> None:
    cond, uncond = noise(4), noise(4, seed=1)
    torch.testing.assert_close(guide(cond, uncond, 1.0), cond)
    torch.testing.assert_close(guide(cond, uncond, 0.0), uncond)
    torch.testing.assert_close(guide(cond, uncond, 3.0), 3 * cond - 2 * uncond)


def test_start_is_left_alone() -> None:
    start = noise(1, 1, 1, 2, 2)
    before = start.clone()
    sample(curved, start, CONFIG)
    assert torch.equal(start, before)


def test_progress_counts_every_step() -> None:
    seen: list[tuple[int, int]] = []
    sample(curved, noise(1, 1, 1, 2, 2), CONFIG, lambda done, steps: seen.append((done, steps)))
    assert seen == [(i + 1, 12) for i in range(12)]


def test_velocity_sees_step_and_timestep() -> None:
    seen: list[tuple[int, float]] = []

    def spy(z: Tensor, step: int, t: float) -> tuple[Tensor, Tensor]:
        seen.append((step, t))
        return z, z

    sample(spy, noise(1, 1, 1, 2, 2), CONFIG)
    assert [step for step, _ in seen] == list(range(12))
    np.testing.assert_allclose([t for _, t in seen], CONFIG.timesteps())


def test_a_velocity_with_the_variance_half_is_refused() -> None:
    start = noise(1, 3, 1, 2, 2)
    with pytest.raises(ConfigError, match="in_channels"):
        sample(lambda z, *_: (torch.cat([z, z], 1), z), start, CONFIG)


class TestModelVelocity:
    """The float model behind the Velocity protocol."""

    config = STDiT3Config(depth=1, hidden=16, heads=2, in_channels=3, caption_channels=6, model_max_length=4)

    @pytest.fixture
    def model(self) -> STDiT3:
        torch.manual_seed(0)
        return STDiT3(self.config).eval()

    def test_both_halves_share_the_mask(self, model: STDiT3) -> None:
        z, y = noise(2, 3, 2, 4, 4, dtype=torch.float32), noise(2, 4, 6, dtype=torch.float32)
        mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
        cond, uncond = model_velocity(model, y, mask, CONFIG)(z, 0, 640.0)
        t = torch.full((2,), 640.0)
        with torch.no_grad():
            want = model(z, t, y, mask, Video(8.0, 32, 32))[:, :3]
            null = model(z, t, model.null_caption(2), mask, Video(8.0, 32, 32))[:, :3]
        torch.testing.assert_close(cond, want)
        torch.testing.assert_close(uncond, null)
        assert not torch.allclose(cond, uncond)
        assert not cond.requires_grad

    def test_batch_rows_are_generated_alone(self, model: STDiT3) -> None:
        z, y = noise(3, 3, 2, 4, 4, dtype=torch.float32), noise(3, 4, 6, dtype=torch.float32)
        mask = torch.ones(3, 4, dtype=torch.bool)
        together = sample(model_velocity(model, y, mask, CONFIG), z, CONFIG)
        for row in range(3):
            one = slice(row, row + 1)
            alone = sample(model_velocity(model, y[one], mask[one], CONFIG), z[one], CONFIG)
            torch.testing.assert_close(together[one], alone, atol=1e-4, rtol=1e-4)
