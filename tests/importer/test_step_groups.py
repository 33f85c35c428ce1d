"""Steps that differ only in constants are one group; exported graphs import without a float weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm_ffi
from onnx import save
from support.execution import onnxruntime_outputs, reference_output, value_of
from support.exported_model import MODELS, SAMPLER, Exporter, feeds
from support.onnx_graphs import model, node, qdq

from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.constants import Derived, evaluate
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of
from tvm_flow.importer.step_groups import StepGroup, import_graph, import_steps

EVERY = tuple((step, branch) for step in range(SAMPLER.steps) for branch in (0, 1))


@pytest.fixture(scope="module")
def groups(exporter: Exporter) -> dict[str, tuple[StepGroup, ...]]:
    return {name: import_steps(exporter(name).graphs, progress=False) for name in ("symmetric", "asymmetric", "mixed")}


@pytest.mark.parametrize("recipe", ["symmetric", "asymmetric"])
def test_one_recipe_is_one_group(groups: dict[str, tuple[StepGroup, ...]], recipe: str) -> None:
    (group,) = groups[recipe]
    assert group.members == EVERY and len(group.given) == len(EVERY)
    assert group.graph.left_in_float == ()


def test_steps_that_keep_layers_in_float_are_another_group(groups: dict[str, tuple[StepGroup, ...]]) -> None:
    members = [group.members for group in groups["mixed"]]
    assert members == [((0, 0), (0, 1)), ((1, 0), (1, 1), (2, 0), (2, 1))]


def test_zero_point_that_happens_to_be_zero_changes_no_structure(tmp_path: Path) -> None:
    paths = []
    for zero in (0, 5):
        constants = {"s": np.float32(0.1), "z": np.int8(zero), "w": np.eye(4, dtype=np.int8), "ws": np.float32(1)}
        nodes = [*qdq("x", "dx"), node("DequantizeLinear", "w ws", "dw"), node("MatMul", "dx dw", "y")]
        paths.append(tmp_path / f"{zero}.onnx")
        save(model(nodes, {"x": (2, 4)}, {"y": (2, 4)}, constants), str(paths[-1]))
    assert len(import_steps([paths], progress=False)) == 1


def test_constants_from_other_initializers_are_another_group(tmp_path: Path) -> None:
    """Same structure, but the scale of one is the other's gain: a shared library would read the wrong one."""
    paths = []
    for scale, gain in (("a", "b"), ("b", "a")):
        nodes = [*qdq("x", "dx", f"{scale} z"), node("Mul", f"dx {gain}", "y")]
        constants = {"a": np.float32(0.1), "b": np.float32(0.2), "z": np.int8(0)}
        paths.append(tmp_path / f"{scale}.onnx")
        save(model(nodes, {"x": (2, 4)}, {"y": (2, 4)}, constants), str(paths[-1]))
    assert len(import_steps([paths], progress=False)) == 2


def test_groups_have_the_values_of_each_member(groups: dict[str, tuple[StepGroup, ...]], exporter: Exporter) -> None:
    """The group's one function with a member's constants is that member's graph."""
    for recipe in ("symmetric", "mixed"):
        for group in groups[recipe]:
            for (step, branch), given in zip(group.members, group.given, strict=True):
                alone = import_graph(exporter(recipe).graphs[step][branch])
                assert tvm_ffi.structural_equal(group.graph.module["main"], alone.module["main"])
                for name, constant in group.graph.constants.items():
                    want = evaluate(alone.constants[name], alone.given)
                    np.testing.assert_array_equal(evaluate(constant, given), want)


@pytest.mark.parametrize("recipe", ["symmetric", "asymmetric"])
def test_no_float_weight_survives(groups: dict[str, tuple[StepGroup, ...]], recipe: str) -> None:
    (group,) = groups[recipe]
    main = group.graph.module["main"]
    products = [v for _, v in bindings_of(main) if op_name(v) == "relax.matmul" and dtype_of(v) == "int32"]
    layers = 2 * 7
    assert len(products) == layers
    weights = {shape_of(v.args[1]) for v in products}
    quantized = {n for n in group.given[0] if n.endswith(".weight_q")}
    assert len(quantized) == layers
    floats = [p.name for p in main.params if dtype_of(p) == "float32" and shape_of(p) in weights]
    assert floats == ["y_embedder.y_proj.fc2.weight"], "which no recipe quantizes"
    casts = [v.args[0].name for _, v in bindings_of(main) if op_name(v) == "relax.astype" and dtype_of(v) == "float32"]
    assert not quantized & set(casts)


def test_parameters_are_documented_constants(groups: dict[str, tuple[StepGroup, ...]]) -> None:
    """Inputs first, then one parameter per constant, shapes and types as their values'."""
    for group, *_rest in groups.values():
        graph = group.graph
        names = [p.name for p in graph.module["main"].params]
        assert names == [*graph.inputs, *graph.constants] and graph.inputs == ("z", "y", "mask")
        for parameter in graph.module["main"].params[3:]:
            value = evaluate(graph.constants[parameter.name], group.given[-1])
            assert (value.shape, str(value.dtype)) == (shape_of(parameter), dtype_of(parameter))


def test_derived_constants_are_products_and_corrections(groups: dict[str, tuple[StepGroup, ...]]) -> None:
    rules = {
        recipe: {c.rule for c in groups[recipe][0].graph.constants.values() if isinstance(c, Derived)}
        for recipe in ("symmetric", "asymmetric")
    }
    assert rules == {"symmetric": {"product"}, "asymmetric": {"product", "zero_point_correction"}}


@pytest.mark.parametrize("recipe", ["symmetric", "asymmetric"])
def test_reference_agrees_with_onnxruntime(exporter: Exporter, recipe: str) -> None:
    """A whole step graph; ties of codes may fall otherwise, so the error is compared with the size of the output."""
    for step, branch in ((0, 0), (2, 1)):
        inputs = feeds(MODELS["STDiT3"].latent, step)
        graph = import_graph(exporter(recipe).graphs[step][branch])
        got = value_of(reference_output(graph, inputs))
        want = onnxruntime_outputs(str(exporter(recipe).graphs[step][branch]), inputs)[0]
        assert np.sqrt(np.mean((got - want) ** 2)) < 2e-3 * np.sqrt(np.mean(want**2))


# what cannot be read


def test_missing_and_damaged_files(exporter: Exporter, tmp_path: Path) -> None:
    graph = exporter("symmetric").graphs[0][0]
    cases: dict[str, bytes] = {"empty.onnx": b"", "noise.onnx": b"\x08\xff" * 40, "no_weights.onnx": graph.read_bytes()}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    for name in (*cases, "absent.onnx"):
        with pytest.raises(ImportGraphError, match=name):
            import_graph(tmp_path / name)


def test_shortened_weight_file(exporter: Exporter, tmp_path: Path) -> None:
    exported = exporter("symmetric")
    weights = (exported.folder / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(weights[: len(weights) // 2])
    (tmp_path / "g.onnx").write_bytes(exported.graphs[0][0].read_bytes())
    with pytest.raises(ImportGraphError, match="export it again"):
        import_graph(tmp_path / "g.onnx")
