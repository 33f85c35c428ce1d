"""The samplers: rectified flow with its step grid and loop, and the diffusions DDIM and IDDPM with their schedule."""

from tvm_flow.sampler.config import SamplerConfig
from tvm_flow.sampler.diffusion import (
    Noise,
    Prediction,
    ddim_step,
    guide_channels,
    iddpm_step,
    model_prediction,
    predict_x0,
    sample_diffusion,
)
from tvm_flow.sampler.loop import Velocity, guide, model_velocity, sample
from tvm_flow.sampler.schedule import Schedule, make_schedule, respaced

__all__ = [
    "Noise",
    "Prediction",
    "SamplerConfig",
    "Schedule",
    "Velocity",
    "ddim_step",
    "guide",
    "guide_channels",
    "iddpm_step",
    "make_schedule",
    "model_prediction",
    "model_velocity",
    "predict_x0",
    "respaced",
    "sample",
    "sample_diffusion",
]
