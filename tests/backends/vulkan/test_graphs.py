"""Kernels as the partition cuts them out of graphs, on the driver, against the integer reference."""

from __future__ import annotations

import numpy as np
import pytest
from support.execution import imported
from support.random_quantized import random_quantized
from support.random_rows import random_rows
from support.shader_execution import run_program
from support.vulkan_runner import LAVAPIPE

from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition

SEEDS = (0, 2, 4, 5)
"""Others take long on a CPU: drivers there compile large shaders slowly."""


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_of_rows(seed: int) -> None:
    model, feeds = random_rows(seed)
    assert not run_program(partition(imported(model)), feeds, LAVAPIPE).refused


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_of_products(seed: int) -> None:
    model, feeds = random_quantized(seed)
    assert not run_program(partition(imported(model)), feeds, LAVAPIPE).refused


@pytest.mark.usefixtures("driver")
def test_a_step_of_the_tiny_model(exported: Exported) -> None:
    """Prologue and step: products with their epilogues, norms, attention, and all that moves between them."""
    program = partition(import_graph(exported.graphs[0][0]))
    rng = np.random.default_rng(0)
    specs = {name: program.tensors[name] for name in program.graph.inputs}
    feeds = {name: rng.standard_normal(spec.shape).astype(spec.dtype) for name, spec in specs.items()}
    ran = run_program(program, feeds, LAVAPIPE)
    assert not ran.refused
    kinds = {made.schedule for made in ran.shaders.values()}
    assert {"int8 product", "float product", "streaming attention", "elements"} <= kinds
