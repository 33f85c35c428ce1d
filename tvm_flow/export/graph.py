"""The step graph of a model: everything that depends on time is a constant in it.

Inputs   z     float32 [C, T, H, W]   the latent
         y     float32 [L, D]         caption tokens, padded
         mask  float32 [L]            0 for a token, `MASKED` for padding
Output   velocity  float32 [C, T, H, W], or the noise; [2 * C, T, H, W] for a sampler that needs the variance, the
                   second half of the final layer, which is not computed otherwise

LayerNormalization carries the folded modulation as its scale and bias. A latent that does not divide into patches is
padded with zeros before and cut after, as Open-Sora does it.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from tvm_flow.export.blocks import caption_tokens, final, patch_tokens
from tvm_flow.export.integer_blocks import integer_blocks
from tvm_flow.export.stdit import stdit_blocks
from tvm_flow.export.stdit3 import stdit3_blocks
from tvm_flow.export.step import MASKED as MASKED
from tvm_flow.export.step import StepWriter
from tvm_flow.export.writer import WeightFile
from tvm_flow.quantize.quantized import QuantizedModel

BLOCKS: dict[str, Callable[[StepWriter, str, str], str]] = {"STDiT": stdit_blocks, "STDiT3": stdit3_blocks}
"""What lies between patches and final layer, by the config's model_type."""


def step_graph(model: QuantizedModel, step: int, branch: int, weights: WeightFile) -> onnx.ModelProto:
    """The graph of one step and branch."""
    w = StepWriter(model, step, branch, weights)
    inputs = {"z": model.latent, "y": (w.caption, model.config.caption_channels), "mask": (w.caption,)}
    y = caption_tokens(w)
    blocks = integer_blocks if model.recipe.between == "integer" else BLOCKS[model.config.model_type]
    x = blocks(w, patch_tokens(w), y)
    return w.g.model(inputs, final(w, x), (model.output_channels, *model.latent[1:]), "velocity")
