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
from tvm_flow.sampler.identity import require_same_sampler, require_tables_of
from tvm_flow.sampler.loop import Velocity, guide, model_outputs, model_velocity, sample
from tvm_flow.sampler.noise import seeded_noise
from tvm_flow.sampler.schedule import Schedule, make_schedule, respaced
from tvm_flow.sampler.trajectory import denoise, drawn_from
from tvm_flow.sampler.update import Guidance, next_latent, step_updates

__all__ = [
    "Guidance",
    "Noise",
    "Prediction",
    "SamplerConfig",
    "Schedule",
    "Velocity",
    "ddim_step",
    "denoise",
    "drawn_from",
    "guide",
    "guide_channels",
    "iddpm_step",
    "make_schedule",
    "model_outputs",
    "model_prediction",
    "model_velocity",
    "next_latent",
    "predict_x0",
    "require_same_sampler",
    "require_tables_of",
    "respaced",
    "sample",
    "sample_diffusion",
    "seeded_noise",
    "step_updates",
]
