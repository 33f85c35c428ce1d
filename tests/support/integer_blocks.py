"""Blocks in integers of the tiny models, made of random vectors: what their arithmetic is, not what a model gains."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from support.tiny_model import CONFIG, LATENT, LENGTHS, SAMPLER, STDIT_CONFIG, embed, make_model
from tvm_flow.calibrate import CalibrationPrompt, Denoising
from tvm_flow.calibrate.reach import Reach, measure_reach
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.model import AnyModel, STDiT, STDiT3, STDiT3Block
from tvm_flow.numerics.integer_rows import MASKED
from tvm_flow.quantize import Recipe
from tvm_flow.quantize.integer_parts import IntegerBlock
from tvm_flow.quantize.integer_scheme import BlockMaker, Given, IntegerModel, norms_of
from tvm_flow.quantize.scheme import make_scheme

Array = npt.NDArray[Any]
PROMPTS = tuple(CalibrationPrompt(text, seed) for seed, text in enumerate(LENGTHS))
BLOCKS = ("spatial_blocks.0", "temporal_blocks.0", "blocks.0")
FRAMES, PLACES = 3, 6


def denoising_of(name: str) -> Denoising:
    """The tiny model that has the block ``name``."""
    return Denoising(make_model(STDIT_CONFIG if name.startswith("blocks") else CONFIG), SAMPLER, LATENT)


@cache
def integer_model(name: str) -> tuple[AnyModel, IntegerModel, Reach]:
    """The model with the block ``name``, its simulated linears, and the reach of the rest."""
    denoising = denoising_of(name)
    samples = sample_inputs(denoising, PROMPTS, embed, 8, progress=False)
    reach = measure_reach(denoising, PROMPTS, embed, progress=False)
    scheme = make_scheme(denoising.model, Recipe(between="integer"), samples)
    return denoising.model, IntegerModel(scheme.layers, reach), reach


@cache
def integer_block(name: str) -> IntegerBlock:
    """The block ``name`` at step 1 of the conditional branch, with random modulation."""
    model, integers, _ = integer_model(name)
    module = model.get_submodule(name)
    vectors = np.random.default_rng(3).normal(0, 0.7, (6, 32)).astype(np.float32)
    vectors[[1, 4]] += 1
    if isinstance(model, STDiT3):
        assert isinstance(module, STDiT3Block)
        cos, sin = (table.numpy() for table in model.rope.tables(FRAMES))
        given = Given(FRAMES, 2, norms_of(module), (cos, sin) if module.temporal else None)
    else:
        assert isinstance(model, STDiT)
        given = Given(FRAMES, 2, times=model.time_embedding(FRAMES).numpy())
    return BlockMaker(integers, name, 1, 0).block(vectors, given)


def block_inputs(batch: int = 1) -> tuple[Array, Array, Array]:
    """Residual, codes of a caption, and a mask of which the last two tokens are padding."""
    rng = np.random.default_rng(5)
    x = np.clip(rng.normal(0, 6000, (batch, FRAMES * PLACES, 32)), -32768, 32767).astype(np.int16)
    y = rng.integers(-127, 128, (batch, 6, 32), dtype=np.int8)
    return x, y, np.where(np.arange(6) < 4, 0, MASKED).astype(np.int32).reshape(1, 1, 6)
