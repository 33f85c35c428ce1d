"""Tiny models quantized by the recipe between integer, and their exports."""

from __future__ import annotations

from pathlib import Path

from support.integer_blocks import PROMPTS, denoising_of, integer_model
from support.tiny_model import embed
from tvm_flow.calibrate import calibrate, load_ranges
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.export import Exported, export
from tvm_flow.quantize import QuantizedModel, Recipe, quantize_model

RECIPE = Recipe(between="integer")


def quantized_integers(name: str, folder: Path) -> QuantizedModel:
    """The model that has the block ``name``; its ranges are left in ``folder``."""
    denoising, ranges = denoising_of(name), folder / "ranges.safetensors"
    calibrate(denoising, PROMPTS, embed, ranges, progress=False)
    samples = sample_inputs(denoising, PROMPTS, embed, 8, progress=False)
    _, _, reach = integer_model(name)
    return quantize_model(denoising.model, load_ranges(ranges), RECIPE, samples, reach)


def exported_integers(model: QuantizedModel, folder: Path) -> Exported:
    """All steps, with a caption that is padded."""
    tokens, mask = embed(["short"])
    return export(model, folder, (tokens[0].numpy(), int(mask[0].sum())), progress=False)
