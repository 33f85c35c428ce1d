"""Every sampler's step as one formula with constants of the step, so that a board needs no schedule.

    e      = uncond + cfg_scale * (cond - uncond)   on the first guided channels, cond on the others
    spread = sigma * exp(log_sigma + log_sigma_of_variance * variance)
    z'     = of_z * z + of_prediction * e + spread * fresh

``cond`` and ``uncond`` are velocities (rflow) or noises (ddim, iddpm); ``variance`` is the second half of the channels
of ``cond``, where a model has learned it; ``fresh`` is unit Gaussian noise, and where sigma is 0 the last term is
absent. With s = the signal's share at a step, alpha_bar, and s' that of the next one (see ``schedule``):

    rflow   of_z 1, of_prediction dt / 1000, sigma 0
    ddim    x0 = (z - sqrt(1 - s) e) / sqrt(s);  z' = sqrt(s') x0 + sqrt(1 - s' - sigma^2) e + sigma fresh, where
            sigma = eta sqrt((1 - s') / (1 - s)) sqrt(1 - s / s')       (DDIM, equations 12 and 16)
    iddpm   z' = mean_of_x0 x0 + mean_of_z z + exp(log_variance / 2) fresh, where log_variance lies between its bounds
            at the share (variance + 1) / 2: half of it is log_sigma + log_sigma_of_variance * variance with
            log_sigma = (high + low) / 4, log_sigma_of_variance = (high - low) / 4.  sigma is 1, at the last step 0

**Precision.** z, predictions and fresh noise are float32; all of the formula is in double, rounded to float32 at the
end. With few steps of a diffusion of_z and of_prediction reach 100 and cancel, so that in single precision the result
could be off by 2^-24 * 3 * 200 = 4e-5. In double what rounding leaves inside is below 2^-50 (|of_z z| +
|of_prediction| (|uncond| + 2 |cfg_scale| |cond - uncond|) + |spread fresh|), some 1e-12 for the sizes that occur, and
`exponential` adds 1e-14 |spread fresh|. What remains is the last rounding, 2^-24 |z'|: below 1e-6 while |z'| <= 16.

`next_latent` computes what the C runtime (src/update.c) computes, operation by operation, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_flow.sampler.config import TRAIN_STEPS, SamplerConfig
from tvm_flow.sampler.schedule import Schedule, make_schedule

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]

COLUMNS = ("of_z", "of_prediction", "sigma", "log_sigma", "log_sigma_of_variance")
OF_Z, OF_PREDICTION, SIGMA = (COLUMNS.index(name) for name in ("of_z", "of_prediction", "sigma"))
LARGEST_EXPONENT = 700.0
"""`exponential` limits its argument to this; e^700 is 1e304, and times anything but 0 no float32."""
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_TERMS = 12


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance with ``cfg_scale`` on the first ``channels`` channels."""

    cfg_scale: float
    channels: int


def step_updates(config: SamplerConfig) -> Doubles:
    """float64 [steps, 5]: the constants of every step, in the order of ``COLUMNS``."""
    rows = np.zeros((config.steps, len(COLUMNS)))
    if config.name == "rflow":
        rows[:, 0], rows[:, 1] = 1.0, config.dts() / TRAIN_STEPS
        return rows
    schedule = make_schedule(config.steps)
    return _ddim(schedule, config.noise_share, rows) if config.name == "ddim" else _iddpm(schedule, rows)


def _ddim(schedule: Schedule, eta: float, rows: Doubles) -> Doubles:
    kept = np.sqrt(schedule.alpha_bar_next)
    sigma = schedule.ddim_sigma(eta)
    rows[:, 0] = kept * schedule.x0_of_z
    rows[:, 1] = np.sqrt(1 - schedule.alpha_bar_next - sigma**2) - kept * schedule.x0_of_noise
    rows[:, 2] = sigma
    return rows


def _iddpm(schedule: Schedule, rows: Doubles) -> Doubles:
    low, high = schedule.log_variance_low, schedule.log_variance_high
    rows[:, 0] = schedule.mean_of_x0 * schedule.x0_of_z + schedule.mean_of_z
    rows[:, 1] = -schedule.mean_of_x0 * schedule.x0_of_noise
    rows[:-1, 2] = 1.0
    rows[:, 3], rows[:, 4] = (high + low) / 4, (high - low) / 4
    return rows


def exponential(x: Doubles) -> Doubles:
    """e^x, within 1e-14 of it, from sums and products alone: the same bits wherever doubles are IEEE's.

    x = n ln 2 + r with |r| <= 0.35; e^r by the first ``_TERMS`` + 1 terms of its series, which leave out less than
    0.35^13 / 13! = 2e-16.
    """
    x = np.minimum(np.maximum(x, -LARGEST_EXPONENT), LARGEST_EXPONENT)
    n = np.floor(x * _LOG2_E + 0.5)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    total = np.ones_like(r)
    for k in range(_TERMS, 0, -1):
        total = total * r / k + 1.0
    with np.errstate(invalid="ignore"):  # what is not a number stays so
        return np.ldexp(total, n.astype(np.int32))


def next_latent(
    z: Singles,
    predictions: tuple[Singles, ...],
    row: NDArray[Any],
    guidance: Guidance,
    fresh: Singles | None = None,
) -> Singles:
    """The latent after one step, float32 [C, ...] as ``z``.

    ``predictions`` are those of the conditional and, when there is one, of the unconditional branch, float32
    [C or 2 * C, ...]; ``row`` float64 [5] is the step's of `step_updates`; ``fresh`` is shaped like ``z`` and needed
    where sigma is not 0.
    """
    channels, cond = len(z), predictions[0].astype(np.float64)
    of_z, of_prediction, sigma, log_sigma, slope = (float(value) for value in row)
    e = cond[:channels].copy()
    if len(predictions) == 2:
        first = slice(0, guidance.channels)
        uncond = predictions[1][first].astype(np.float64)
        e[first] = uncond + guidance.cfg_scale * (cond[first] - uncond)
    result = of_z * z.astype(np.float64) + of_prediction * e
    if sigma:
        assert fresh is not None
        spread: Any = sigma
        if len(cond) > channels:
            spread = sigma * exponential(log_sigma + slope * cond[channels:])
        result = result + spread * fresh.astype(np.float64)
    with np.errstate(over="ignore"):
        rounded: Singles = result.astype(np.float32)
    return rounded
