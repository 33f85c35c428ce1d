"""Which sampler a video is denoised by, and at which timesteps: Open-Sora v1.2's rectified flow, v1.0's diffusions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tvm_flow.errors import ConfigError
from tvm_flow.fields import check_fields, described, from_mapping, number, positive, whole
from tvm_flow.limits import MAX_CFG_SCALE, MAX_ELEMENTS, MAX_STEPS
from tvm_flow.sampler.schedule import respaced

SAMPLERS = ("rflow", "ddim", "iddpm")
DIFFUSION_GUIDED = 3  # Open-Sora v1.0 guides the first three of four latent channels
TRAIN_STEPS = 1000.0
MAX_RATE = 1e6
"""Of frames per second, and of the timestep transform: far beyond both, and far from the end of float32."""
_UNHEARD = {"rflow": ("guided_channels", "eta"), "ddim": ("ratio",), "iddpm": ("ratio", "eta")}


@dataclass(frozen=True)
class SamplerConfig:
    """A step grid and what it depends on; per-step tables belong to exactly one of these.

    ===============  =====================================================================
    steps            Euler steps, or steps of a diffusion (1000 at most)
    cfg_scale        v = uncond + cfg_scale * (cond - uncond); 0 to 100
    fps              frames per second, an input of the model
    frames           frames of the video
    height, width    of the video, in pixels
    ratio            rflow's timestep transform; None takes Open-Sora's from size and frame count
    name             "rflow", "ddim" or "iddpm"
    guided_channels  first channels that ddim and iddpm guide; None takes Open-Sora's 3
    eta              share of a step's variance that ddim draws anew, 0 to 1; None takes 0, which draws nothing
    ===============  =====================================================================
    """

    steps: Annotated[int, whole(1, MAX_STEPS)] = 30
    cfg_scale: Annotated[float, number(0, MAX_CFG_SCALE)] = 7.0
    fps: Annotated[float, positive(MAX_RATE)] = 24.0
    frames: Annotated[int, whole(1, MAX_ELEMENTS)] = 51
    height: Annotated[int, whole(1, MAX_ELEMENTS)] = 240
    width: Annotated[int, whole(1, MAX_ELEMENTS)] = 426
    ratio: Annotated[float | None, positive(MAX_RATE)] = None
    name: Annotated[Literal["rflow", "ddim", "iddpm"], described(f"one of {', '.join(SAMPLERS)}")] = "rflow"
    guided_channels: Annotated[int | None, whole(0, MAX_ELEMENTS)] = None
    eta: Annotated[float | None, number(0, 1)] = None

    def __post_init__(self) -> None:
        check_fields(self, "sampler: ")
        self._check_sampler()

    def _check_sampler(self) -> None:
        """A value that the sampler does not look at would be a wish that nobody hears."""
        for unheard in _UNHEARD[self.name]:
            if getattr(self, unheard) is not None:
                raise ConfigError(
                    f"sampler: {unheard}: expected none for {self.name}, got {getattr(self, unheard)}; leave it out"
                )
        if self.name != "rflow":
            respaced(self.steps)

    @property
    def guided(self) -> int:
        """How many first channels ddim and iddpm guide; rflow guides all."""
        return DIFFUSION_GUIDED if self.guided_channels is None else self.guided_channels

    @property
    def noise_share(self) -> float:
        """``eta``, 0 when it is not given."""
        return 0.0 if self.eta is None else self.eta

    @property
    def learned_variance(self) -> bool:
        """Whether the sampler uses the variance half of the model's output."""
        return self.name == "iddpm"

    @property
    def draws_noise(self) -> bool:
        """Whether steps, apart from the last, need fresh noise."""
        return self.name == "iddpm" or self.noise_share > 0

    def guided_of(self, channels: int) -> int:
        """How many of ``channels`` latent channels are guided; raises ConfigError for more than there are."""
        guided = channels if self.name == "rflow" else self.guided
        if guided > channels:
            raise ConfigError(
                f"SamplerConfig.guided_channels: expected at most the {channels} channels of the latent, got {guided}; "
                "lower it"
            )
        return guided

    @property
    def timestep_ratio(self) -> float:
        """``ratio``, or Open-Sora's: sqrt(height * width / 512^2) * sqrt((frames // 17) * 5).

        For fewer than 17 frames Open-Sora's formula gives 0; there, as for images, the frame factor is 1.
        """
        if self.ratio is not None:
            return self.ratio
        size = math.sqrt(self.height * self.width / 512**2)
        return size * math.sqrt(max(self.frames // 17 * 5, 1))

    def timesteps(self) -> NDArray[np.float64]:
        """float64 [steps], falling, in 0..1000: what the model is given at each step.

        rflow: t_i = (1 - i / steps) * 1000 after Open-Sora v1.2's transform, which on t / 1000 is
        t' = ratio * t / (1 + (ratio - 1) * t). ddim and iddpm: evenly spaced whole numbers, from 999 to 0.
        """
        if self.name != "rflow":
            return respaced(self.steps).astype(np.float64)
        t = 1.0 - np.arange(self.steps, dtype=np.float64) / self.steps
        r = self.timestep_ratio
        return r * t / (1 + (r - 1) * t) * TRAIN_STEPS

    def dts(self) -> NDArray[np.float64]:
        """float64 [steps]: t_i - t_{i+1} in the unit of ``timesteps``, ending at 0; they add up to 1000.

        Raises ConfigError for a sampler that takes no Euler steps.
        """
        if self.name != "rflow":
            raise ConfigError(
                f"SamplerConfig.name: expected 'rflow' for Euler steps, got {self.name!r}; use sample_diffusion"
            )
        t = self.timesteps()
        ends: NDArray[np.float64] = np.append(t[1:], 0.0)
        return t - ends

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for stamps, without keys that the sampler does not look at but for ``ratio``.

        So the keys are those of files written before there were other samplers, and ddim without ``eta`` is as before.
        """
        unset = {"guided_channels", "eta"}.intersection(_UNHEARD[self.name]) | ({"eta"} if self.eta is None else set())
        return {key: value for key, value in asdict(self).items() if key not in unset}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SamplerConfig:
        """The inverse of ``to_dict``; raises ConfigError on an unknown key or an impossible value."""
        return from_mapping(cls, "sampler: ", values)
