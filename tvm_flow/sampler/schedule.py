"""The noise schedule of Open-Sora v1.0 (improved-diffusion's, as DiT uses it), respaced to fewer steps.

    beta       linear from 1e-4 to 0.02 over 1000 training steps
    alpha_bar  product of (1 - beta) up to a step
    z_t        sqrt(alpha_bar_t) * x0 + sqrt(1 - alpha_bar_t) * noise

Everything is float64 and in order of denoising: index 0 is the noisiest step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import ConfigError

DIFFUSION_STEPS = 1000
BETA_FIRST, BETA_LAST = 1e-4, 0.02

Floats = NDArray[np.float64]


def respaced(steps: int) -> NDArray[np.int64]:
    """int64 [steps], falling to 0: evenly spaced training steps, first and last included (space_timesteps).

    One step is step 0, as in the original. Raises ConfigError for more steps than there are.
    """
    if not 1 <= steps <= DIFFUSION_STEPS:
        raise ConfigError(f"sampler: expected 1 to {DIFFUSION_STEPS} steps, got {steps}; change steps")
    stride = (DIFFUSION_STEPS - 1) / (steps - 1) if steps > 1 else 1.0
    taken, at = [], 0.0
    # Summed and not multiplied, and rounded half to even, because the original does: ties must fall alike.
    for _ in range(steps):
        taken.append(round(at))
        at += stride
    return np.array(taken[::-1], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Schedule:
    """What each of the steps multiplies with; every array float64 [steps].

    ===============  ================================================================
    timesteps        what the model is given, whole numbers in 0..999
    alpha_bar        at the step
    alpha_bar_next   at the step that follows, 1 after the last
    ===============  ================================================================
    """

    timesteps: Floats
    alpha_bar: Floats
    alpha_bar_next: Floats

    @property
    def beta(self) -> Floats:
        """The noise that one respaced step adds: 1 - alpha_bar / alpha_bar_next."""
        return 1 - self.alpha_bar / self.alpha_bar_next

    @property
    def x0_of_z(self) -> Floats:
        """x0 = x0_of_z * z - x0_of_noise * noise; here sqrt(1 / alpha_bar)."""
        return np.sqrt(1 / self.alpha_bar)

    @property
    def x0_of_noise(self) -> Floats:
        """sqrt(1 / alpha_bar - 1)."""
        return np.sqrt(1 / self.alpha_bar - 1)

    @property
    def mean_of_x0(self) -> Floats:
        """Mean of q(z_next | z, x0) = mean_of_x0 * x0 + mean_of_z * z (DDPM, equation 7)."""
        return self.beta * np.sqrt(self.alpha_bar_next) / (1 - self.alpha_bar)

    @property
    def mean_of_z(self) -> Floats:
        """sqrt(1 - beta) * (1 - alpha_bar_next) / (1 - alpha_bar)."""
        return (1 - self.alpha_bar_next) * np.sqrt(1 - self.beta) / (1 - self.alpha_bar)

    def ddim_sigma(self, eta: float) -> Floats:
        """What ddim draws anew: eta * sqrt((1 - alpha_bar_next) / (1 - alpha_bar)) * sqrt(beta) (equation 16).

        0 at the last step.
        """
        return eta * np.sqrt((1 - self.alpha_bar_next) / (1 - self.alpha_bar)) * np.sqrt(self.beta)

    @property
    def log_variance_low(self) -> Floats:
        """Log of the variance of q(z_next | z, x0), the lower end of the learned range.

        That of the last step is 0 and has no logarithm; the step before stands in, or beta when there is none. It
        is never drawn with, because the last step adds no noise.
        """
        variance = self.beta * (1 - self.alpha_bar_next) / (1 - self.alpha_bar)
        variance[-1] = variance[-2] if len(variance) > 1 else self.beta[-1]
        return np.log(variance)

    @property
    def log_variance_high(self) -> Floats:
        """log(beta), the upper end of the learned range."""
        return np.log(self.beta)


def make_schedule(steps: int) -> Schedule:
    """The schedule of ``steps`` evenly spaced steps; raises ConfigError for more than 1000."""
    timesteps = respaced(steps)
    beta = np.linspace(BETA_FIRST, BETA_LAST, DIFFUSION_STEPS, dtype=np.float64)
    alpha_bar: Floats = np.cumprod(1 - beta, dtype=np.float64)[timesteps]
    following: Floats = np.append(alpha_bar[1:], 1.0)
    return Schedule(timesteps.astype(np.float64), alpha_bar, following)
