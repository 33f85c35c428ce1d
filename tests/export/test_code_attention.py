"""A step graph whose attention multiplies codes: what the simulation gives, and products of integers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny_model
from support.execution import call_kernel, compile_functions, lowered, onnxruntime_outputs, run_checked
from support.tiny_model import LATENT, SAMPLER, embed

from tvm_flow.backends.cpu.around_attention import attention_runs
from tvm_flow.backends.cpu.codegen import float_kernel
from tvm_flow.calibrate import Denoising, load_ranges
from tvm_flow.calibrate.attended import measure_attended
from tvm_flow.export import Exported
from tvm_flow.export.step import MASKED
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name
from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.quantize.prepare import Fitting, prepare
from tvm_flow.quantize.quantized import QuantizedModel
from tvm_flow.quantize.recipe import Recipe
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import simulated_outputs, simulating
from tvm_flow.quantize.simulated_attention import attending_in_int8, attention_codes
from tvm_flow.sampler import model_outputs

Array = np.ndarray[Any, Any]
RECIPE = "quality/static-w8a8-attention8"
STEP = 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QuantizedModel, Exported]:
    """The ranges, the quantized model, its graphs."""
    folder = tmp_path_factory.mktemp("attention8")
    (folder / "quality").mkdir()
    ranges = tiny_model.make_ranges(folder)
    return (ranges, *tiny_model.make_export(ranges, RECIPE, folder))


def feeds() -> dict[str, Array]:
    tokens, mask = embed(["a longer one"])
    z = torch.randn(LATENT, generator=torch.Generator().manual_seed(0)).numpy()
    return {"z": z, "y": tokens[0].numpy(), "mask": np.where(mask[0].numpy(), 0, MASKED).astype(np.float32)}


def test_runs_like_the_simulated_model(made: tuple[Path, QuantizedModel, Exported]) -> None:
    """Float sums differ in order, so a few codes at ties do too: far less than what quantizing costs."""
    ranges, _, exported = made
    seen, recipe = load_ranges(ranges), Recipe(attention="int8")
    denoising = Denoising(tiny_model.make_model(), SAMPLER, LATENT)
    model, samples = prepare(Fitting(denoising, seen.prompts, embed), recipe)
    scheme = make_scheme(model, recipe, samples)
    codes = attention_codes(measure_attended(denoising, seen.prompts, embed), scheme.groups, False)
    z, caption, at = torch.from_numpy(feeds()["z"])[None], embed(["a longer one"]), SAMPLER.timesteps()[STEP]
    with torch.no_grad():
        exact = model_outputs(model, *caption, SAMPLER)(z, STEP, at)
        with simulating(model, scheme.layers) as clock, attending_in_int8(model, codes, clock):
            want = simulated_outputs(model, clock, caption, SAMPLER)(z, STEP, at)
    got = onnxruntime_outputs(str(exported.graphs[STEP][0]), feeds())[0]
    off, quantization = (
        np.sqrt(np.mean(np.square(x - want[0][0, :4].numpy()))) for x in (got, exact[0][0, :4].numpy())
    )
    assert quantization > 1e-4 and off < quantization / 5


def test_both_products_are_of_codes_and_exact(made: tuple[Path, QuantizedModel, Exported]) -> None:
    """Every kernel is compared on its own inputs, sums bit for bit; nothing is left in float."""
    graph = import_graph(made[2].graphs[STEP][0])
    assert graph.left_in_float == ()
    products = [value for _, value in bindings_of(graph.module["main"]) if op_name(value) == "relax.matmul"]
    wide = [value for value in products if value.args[0].ty.ndim > 2]
    assert len(wide) == 2 * 4, "two blocks, each with attention to itself and to the caption"
    assert all(dtype_of(value) == "int32" for value in wide)
    seen = run_checked(lowered(graph), feeds())
    assert np.isfinite(seen.output).all()
    program = partition(graph)
    runs = attention_runs(program, program.kernels)
    assert len(runs) == 4 and all(program.tensors[program.calls[run.stop - 1].output].dtype == "int8" for run in runs)
    assert_same_apart(program, runs, seen.tensors)


def assert_same_apart(program: Program, runs: list[range], together: dict[str, Array]) -> None:
    """Each attention is one kernel with its norms, rope and codes, and gives the bits of a kernel for each."""
    calls = [program.calls[position] for run in runs for position in run]
    kernels = {call.kernel: float_kernel(call.kernel, program.kernels[call.kernel]) for call in calls}
    module, tensors = compile_functions(kernels), dict(together)
    for call in calls:
        spec = program.tensors[call.output]
        made = call_kernel(module, call.kernel, [tensors[name] for name in call.args], spec.shape, spec.dtype)
        assert call.output not in together or np.array_equal(made, together[call.output])
        tensors[call.output] = made


def test_a_gain_of_a_projection_stays_out_of_v(made: tuple[Path, QuantizedModel, Exported]) -> None:
    """V has one scale for all its channels, that of what calibration saw."""
    quantized = made[1]
    gains = {name for name, layer in quantized.layers.items() if layer.input_gain is not None}
    assert {"spatial_blocks.0.attn.proj", "temporal_blocks.0.cross_attn.proj"} <= gains
    assert set(quantized.reach) == {name.removesuffix(".proj") for name in quantized.layers if name.endswith(".proj")}
    assert all(scales.shape == (SAMPLER.steps, 2, 3) for scales in quantized.reach.values())
