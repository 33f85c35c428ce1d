"""The rectified-flow sampler: its step grid and its loop."""

from tvm_flow.sampler.config import SamplerConfig
from tvm_flow.sampler.loop import Velocity, guide, model_velocity, sample

__all__ = ["SamplerConfig", "Velocity", "guide", "model_velocity", "sample"]
