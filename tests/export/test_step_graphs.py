"""Step graphs: valid ONNX, the numbers of the quantized model, and nothing in them that depends on time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from support.execution import onnxruntime_outputs
from support.exported_model import MODELS, RECIPES, SAMPLER, Exporter, Quantizer, Tiny, embed, feeds

from tvm_flow.calibrate import block_names
from tvm_flow.errors import ExportError
from tvm_flow.export import Exported
from tvm_flow.export.graph import step_graph
from tvm_flow.export.writer import WeightFile
from tvm_flow.model import AnyModel
from tvm_flow.quantize import FakeQuant
from tvm_flow.sampler import model_velocity

pytestmark = pytest.mark.parametrize("chosen", MODELS, indirect=True)
STEPS = range(SAMPLER.steps)
EVERY = [(recipe, step, branch) for recipe in RECIPES for step in STEPS for branch in (0, 1)]
TIMELESS = {
    *("Add", "Concat", "DequantizeLinear", "Div", "Gelu", "Identity", "LayerNormalization", "MatMul", "Mul"),
    *("QuantizeLinear", "ReduceMean", "Reshape", "Slice", "Softmax", "Sqrt", "Transpose"),
}


def graph_of(exported: Exported, step: int = 0, branch: int = 0) -> onnx.ModelProto:
    return onnx.load(str(exported.graphs[step][branch]))


def run(
    exported: Exported, inputs: dict[str, np.ndarray[Any, Any]], step: int = 0, branch: int = 0
) -> np.ndarray[Any, Any]:
    return onnxruntime_outputs(str(exported.graphs[step][branch]), inputs)[0]


def fake(
    exporter: Quantizer, recipe: str, step: int, branch: int, inputs: dict[str, np.ndarray[Any, Any]]
) -> torch.Tensor:
    z, y = (torch.from_numpy(inputs[name])[None] for name in ("z", "y"))
    mask = torch.from_numpy(inputs["mask"] == 0)[None]
    return FakeQuant(exporter(recipe), step, branch)(z, y, mask)[0, :4]


@pytest.mark.parametrize(("recipe", "step", "branch"), EVERY)
def test_checker_accepts_every_graph(exporter: Exporter, recipe: str, step: int, branch: int) -> None:
    onnx.checker.check_model(str(exporter(recipe).graphs[step][branch]), full_check=True)


@pytest.mark.parametrize(("recipe", "step", "branch"), EVERY)
def test_runs_like_the_quantized_model(
    exporter: Exporter, quantizer: Quantizer, chosen: Tiny, recipe: str, step: int, branch: int
) -> None:
    """Float sums differ in order, so a few codes at ties do too: far less than what quantizing costs."""
    inputs = feeds(chosen.latent, step)
    got = run(exporter(recipe), inputs, step, branch)
    want = fake(quantizer, recipe, step, branch, inputs).numpy()
    exact = fake(quantizer, "float", step, branch, inputs).numpy()
    difference, quantization = (np.sqrt(np.mean(np.square(d))) for d in (got - want, exact - want))
    assert got.shape == chosen.latent and got.dtype == np.float32
    if recipe == "float":
        np.testing.assert_allclose(got, want, atol=1e-5)
    else:
        assert quantization > 1e-4, "the recipe quantizes"
        assert difference < quantization / 5


@pytest.mark.parametrize("step", STEPS)
def test_float_graph_is_the_torch_model(exporter: Exporter, chosen: Tiny, tiny: AnyModel, step: int) -> None:
    """With nothing quantized what is left is folding time, patches, heads and the channel order of rope: exact."""
    inputs = feeds(chosen.latent, 11)
    y, mask = embed(["a longer one"])
    velocity = model_velocity(tiny, y, mask, SAMPLER)
    exported = exporter("float")
    halves = velocity(torch.from_numpy(inputs["z"])[None], step, float(exported.timesteps[step]))
    null = inputs | {"y": exported.null_caption}
    for branch, (half, feed) in enumerate(zip(halves, (inputs, null), strict=True)):
        want = half[0].numpy()
        assert np.abs(want).max() > 0.3
        np.testing.assert_allclose(run(exported, feed, step, branch), want, atol=1e-5)


def test_float_graph_by_the_reference_of_onnx(exporter: Exporter, chosen: Tiny, tiny: AnyModel) -> None:
    """As above, run by onnx's own evaluator."""
    inputs, exported = feeds(chosen.latent, 12), exporter("float")
    velocity = model_velocity(tiny, *embed(["a longer one"]), SAMPLER)
    want = velocity(torch.from_numpy(inputs["z"])[None], 1, float(exported.timesteps[1]))[0][0].numpy()
    (got,) = ReferenceEvaluator(graph_of(exported, 1)).run(None, inputs)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_nothing_depends_on_time(exporter: Exporter) -> None:
    for recipe in RECIPES:
        graph = graph_of(exporter(recipe)).graph
        assert [i.name for i in graph.input] == ["z", "y", "mask"]
        assert [o.name for o in graph.output] == ["velocity"]
        assert {node.op_type for node in graph.node} <= TIMELESS
        names = {name for node in graph.node for name in (*node.input, *node.output)}
        names |= {i.name for i in graph.initializer}
        assert not [n for n in names if n.startswith(("t_", "fps_")) or "t_block" in n or "t_embedder" in n]


def test_only_folds_and_scales_differ_between_steps(exporter: Exporter) -> None:
    exported = exporter("asymmetric")
    first, other = ({i.name: i for i in graph_of(exported, step).graph.initializer} for step in (0, 2))
    assert list(first) == list(other)
    different = {name for name in first if first[name].SerializeToString() != other[name].SerializeToString()}
    assert set(exported.folds) <= different
    assert all(n in exported.folds or n.endswith((".scale", ".zero_point")) for n in different)


def test_folds_reproduce_the_constants(exporter: Exporter) -> None:
    exported = exporter("symmetric")
    for step in STEPS:
        constants = {i.name: numpy_helper.to_array(i) for i in graph_of(exported, step).graph.initializer}
        for name, fold in exported.folds.items():
            np.testing.assert_array_equal(fold.evaluate(exported.step_records[step]), constants[name])


def test_scales_are_scalars(exporter: Exporter) -> None:
    """A vector of one element would say: one scale per channel, for one channel."""
    for recipe in ("symmetric", "asymmetric"):
        graph = graph_of(exporter(recipe)).graph
        shapes = {i.name: list(i.dims) for i in graph.initializer}
        quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        assert quantizers
        for node in quantizers:
            assert [shapes[name] for name in node.input[1:]] == [[]] * (len(node.input) - 1)


def test_asymmetric_recipe_has_zero_points_and_symmetric_has_none(exporter: Exporter) -> None:
    for recipe, count in (("symmetric", 2), ("asymmetric", 3)):
        nodes = [n for n in graph_of(exporter(recipe)).graph.node if n.op_type == "QuantizeLinear"]
        assert nodes and all(len(node.input) == count for node in nodes)


def test_float_layers_have_no_quantize(exporter: Exporter, chosen: Tiny) -> None:
    assert not [
        n for n in graph_of(exporter("float")).graph.node if "Quantize" in n.op_type or "Dequantize" in n.op_type
    ]
    mixed = [
        {n.input[1] for n in graph_of(exporter("mixed"), step).graph.node if n.op_type == "QuantizeLinear"}
        for step in (0, 1)
    ]
    assert mixed[1] - mixed[0] == {f"{block}.mlp.fc2.scale" for block in block_names(chosen.config)}


def test_every_quantized_layer_is_quantized_per_channel(exporter: Exporter, quantizer: Quantizer) -> None:
    graph = graph_of(exporter("symmetric")).graph
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0].endswith(".weight_q")]
    named = [node.input[0].removesuffix(".weight_q") for node in weights]
    assert sorted(named) == sorted(quantizer("symmetric").layers)
    for node in weights:
        assert [(a.name, a.i) for a in node.attribute] == [("axis", 1)]


@pytest.mark.parametrize("recipe", ["float", "symmetric"])
def test_masked_tokens_have_no_influence(exporter: Exporter, chosen: Tiny, recipe: str) -> None:
    exported, inputs = exporter(recipe), feeds(chosen.latent, length=4)
    loud = inputs | {"y": inputs["y"].copy()}
    loud["y"][4:] = 1e3
    np.testing.assert_array_equal(run(exported, loud), run(exported, inputs))
    heard = loud | {"mask": np.zeros(6, np.float32)}
    assert np.abs(run(exported, heard) - run(exported, inputs)).max() > 1e-3


def test_each_input_matters(exporter: Exporter, chosen: Tiny) -> None:
    exported, inputs = exporter("symmetric"), feeds(chosen.latent)
    before = run(exported, inputs)
    for name in ("z", "y"):
        assert np.abs(run(exported, inputs | {name: inputs[name] + 0.5}) - before).max() > 1e-3


def test_branches_have_their_own_scales(exporter: Exporter) -> None:
    exported = exporter("symmetric")
    cond, uncond = (
        {i.name: numpy_helper.to_array(i) for i in graph_of(exported, 0, branch).graph.initializer} for branch in (0, 1)
    )
    assert any(cond[name] != uncond[name] for name in cond if name.endswith("kv_linear.scale"))


def test_only_a_latent_that_does_not_divide_is_padded(exporter: Exporter, chosen: Tiny) -> None:
    graph = graph_of(exporter("symmetric")).graph
    padding = {i.name: list(i.dims) for i in graph.initializer if i.name.startswith("padding")}
    cut = [node for node in graph.node if node.op_type == "Slice" and node.output[0] == graph.node[-1].input[0]]
    odd = [axis for axis, p in enumerate(chosen.config.patch, 1) if chosen.latent[axis] % p]
    assert sorted(padding) == [f"padding.{axis}" for axis in odd] and len(cut) == bool(odd)
    assert all(padding[f"padding.{axis}"][axis] == 1 for axis in odd)


def test_frames_enter_block_0_of_an_stdit_and_no_other(exporter: Exporter, chosen: Tiny) -> None:
    nodes = graph_of(exporter("symmetric")).graph.node
    readers = [node for node in nodes if "time_embedding" in node.input]
    assert len(readers) == (1 if chosen.config.model_type == "STDiT" else 0)
    if readers:
        before = [n.input[1] for n in list(nodes)[: list(nodes).index(readers[0])] if n.op_type == "QuantizeLinear"]
        assert before == ["blocks.0.attn.qkv.scale", "blocks.0.attn.proj.scale"]


@pytest.mark.parametrize("missing", [{"weight_q": None}, {"weight_scale": None}])
def test_layer_without_the_weights_of_its_step(quantizer: Quantizer, missing: dict[str, None]) -> None:
    model = quantizer("symmetric")
    name = next(name for name in model.layers if name.endswith("mlp.fc1"))
    damaged = dataclasses.replace(model.layers[name])
    for key, value in missing.items():
        object.__setattr__(damaged, key, value)
    broken = dataclasses.replace(model, layers=dict(model.layers) | {name: damaged})
    with pytest.raises(ExportError, match=f"{name}.*quantize again"):
        step_graph(broken, 0, 0, WeightFile("weights.bin"))
