"""Activation ranges of the float model over real denoising trajectories."""

from tvm_flow.calibrate.identity import model_sha256
from tvm_flow.calibrate.layers import BRANCHES, block_names, layer_kinds, layer_names
from tvm_flow.calibrate.prompts import CalibrationPrompt, load_prompts
from tvm_flow.calibrate.ranges import LayerRanges, Ranges, load_ranges, merge, ranges_sampler, save_ranges
from tvm_flow.calibrate.run import Denoising, Embed, calibrate

__all__ = [
    "BRANCHES",
    "CalibrationPrompt",
    "Denoising",
    "Embed",
    "LayerRanges",
    "Ranges",
    "block_names",
    "calibrate",
    "layer_kinds",
    "layer_names",
    "load_prompts",
    "load_ranges",
    "merge",
    "model_sha256",
    "ranges_sampler",
    "save_ranges",
]
