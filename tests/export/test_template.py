"""Graphs that are made from one of their structure, and the weight file that they share."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.exported_model import RECIPES, SAMPLER, Quantizer

from tvm_flow.errors import ExportError
from tvm_flow.export.graph import step_graph
from tvm_flow.export.template import StepTemplates, own_value
from tvm_flow.export.writer import WeightFile


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_graph_from_a_template_is_the_graph_of_its_step(quantizer: Quantizer, recipe: str) -> None:
    """Byte for byte, for every step and branch, whichever graph the template was built from."""
    model, weights = quantizer(recipe), WeightFile("weights.bin")
    templates = StepTemplates(model, weights)
    for step in range(SAMPLER.steps):
        templates.add(step)
    for step in reversed(range(SAMPLER.steps)):
        for branch in (0, 1):
            alone = step_graph(model, step, branch, weights)
            assert templates.graph(step, branch).SerializeToString() == alone.SerializeToString()


def test_steps_of_one_structure_are_built_once(quantizer: Quantizer) -> None:
    counts = {}
    for recipe in ("symmetric", "mixed"):
        templates = StepTemplates(quantizer(recipe), WeightFile("weights.bin"))
        for step in range(SAMPLER.steps):
            templates.add(step)
        counts[recipe] = len(templates.built)
    assert counts == {"symmetric": 1, "mixed": 2}


@pytest.mark.parametrize(
    "name", ["spatial_blocks.0.msa_tilt", "spatial_blocks.0.attn.qkv.weight_q", "x.scale", "rope.cos"]
)
def test_a_constant_that_no_step_owns_is_an_error(quantizer: Quantizer, name: str) -> None:
    with pytest.raises(ExportError, match=f"'{name}': expected a fold, or a bias, scale or zero point"):
        own_value(quantizer("symmetric"), name, 0, 0)


def test_the_weight_file_is_written_array_by_array(tmp_path: Path) -> None:
    """Ten arrays of a megabyte: the writer never holds two, whatever it has written before."""
    size, count = 1 << 20, 10
    with (tmp_path / "weights.bin").open("wb") as stream:
        weights = WeightFile("weights.bin", stream)
        tracemalloc.start()
        for index in range(count):
            weights.tensor(f"w{index}", np.full(size, index, np.int8))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "weights.bin").stat().st_size == weights.size == size * count
    assert peak < 2 * size, "one array by the caller, and less than another for headers and buffers"
