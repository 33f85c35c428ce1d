"""The export folder: one weight file, tables, and a marker that it is finished."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.execution import onnxruntime_outputs
from support.exported_model import RECIPES, SAMPLER, Exporter, Quantizer, feeds

from tvm_flow.errors import ExportError
from tvm_flow.export import export, load_exported
from tvm_flow.export.writer import ALIGNMENT, GraphWriter, WeightFile


def shared(path: Path) -> dict[str, dict[str, str]]:
    """Location, offset and length of every external tensor of a graph."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return {
        i.name: {e.key: e.value for e in i.external_data}
        for i in graph.initializer
        if i.data_location == onnx.TensorProto.EXTERNAL
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_graphs_name_one_weight_file(exporter: Exporter, recipe: str) -> None:
    exported = exporter(recipe)
    files = sorted(p.name for p in exported.folder.iterdir())
    graphs = [f"step_{s:03d}_{b}.onnx" for s in range(SAMPLER.steps) for b in ("cond", "uncond")]
    assert files == sorted(["weights.bin", "tables.safetensors", "export.json", *graphs])
    entries = [shared(path) for row in exported.graphs for path in row]
    assert {e["location"] for graph in entries for e in graph.values()} == {"weights.bin"}


def test_shared_tensors_are_stored_once(exporter: Exporter) -> None:
    exported = exporter("mixed")
    places: dict[str, tuple[int, int]] = {}
    for row in exported.graphs:
        for path in row:
            for name, entry in shared(path).items():
                place = int(entry["offset"]), int(entry["length"])
                assert places.setdefault(name, place) == place
    ends = 0
    for offset, length in sorted(places.values()):
        assert offset % ALIGNMENT == 0 and ends <= offset < ends + ALIGNMENT, "no overlap and no hole"
        ends = offset + length
    assert (exported.folder / "weights.bin").stat().st_size == ends


def test_graphs_themselves_stay_small(exporter: Exporter) -> None:
    """What a step adds is scales and folded vectors, not weights."""
    exported = exporter("symmetric")
    weights = (exported.folder / "weights.bin").stat().st_size
    inside = onnx.load(str(exported.graphs[0][0]), load_external_data=False).graph.initializer
    own = sum(len(i.raw_data) for i in inside if i.data_location != onnx.TensorProto.EXTERNAL)
    assert own < weights / 4


def test_reading_back_gives_what_was_written(exporter: Exporter, quantizer: Quantizer) -> None:
    exported, model = exporter("symmetric"), quantizer("symmetric")
    again = load_exported(exported.folder)
    assert again.graphs == exported.graphs and again.latent == model.latent
    assert again.text == (model.config.model_max_length, model.config.caption_channels)
    for name in ("step_records", "timesteps", "updates"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
        assert getattr(again, name).dtype == getattr(model, name).dtype
    assert again.sampler == model.sampler.to_dict() and again.model == model.config.to_dict()
    assert again.provenance == {"model_sha256": model.model_sha256, "recipe": model.recipe.to_dict()}
    for name, fold in model.folds.items():
        assert again.folds[name].offset == fold.offset
        np.testing.assert_array_equal(again.folds[name].base, fold.base)
        assert (again.folds[name].gain is None) == (fold.gain is None)


def test_golden_caption_is_the_null_caption_unless_one_is_given(
    exporter: Exporter, quantizer: Quantizer, tmp_path: Path
) -> None:
    plain = exporter("symmetric")
    np.testing.assert_array_equal(plain.caption, plain.null_caption)
    assert plain.caption_length == len(plain.null_caption)
    tokens = feeds((4, 3, 6, 4))["y"]
    given = export(quantizer("symmetric"), tmp_path, (tokens, 5), range(1), progress=False)
    np.testing.assert_array_equal(given.caption, tokens)
    assert given.caption_length == 5
    np.testing.assert_array_equal(given.null_caption, plain.null_caption)


@pytest.mark.parametrize(("shape", "length"), [((5, 8), 3), ((6, 7), 3), ((6, 8), 7), ((6, 8), -1)])
def test_caption_of_another_shape(quantizer: Quantizer, tmp_path: Path, shape: tuple[int, int], length: int) -> None:
    with pytest.raises(ExportError, match=r"caption: expected \[6, 8\]"):
        export(quantizer("symmetric"), tmp_path, (np.zeros(shape, np.float32), length), range(1), progress=False)


@pytest.mark.parametrize("steps", [range(1, 3), range(0, 3, 2), range(2, 0, -1)])
def test_tables_follow_the_chosen_steps(quantizer: Quantizer, tmp_path: Path, steps: range) -> None:
    model = quantizer("symmetric")
    exported = export(model, tmp_path, steps=steps, progress=False)
    assert len(exported.graphs) == len(exported.timesteps) == len(exported.updates) == len(exported.step_records)
    for row, step in enumerate(steps):
        assert exported.graphs[row][0].name == f"step_{step:03d}_cond.onnx"
        assert exported.timesteps[row] == model.timesteps[step]
        np.testing.assert_array_equal(exported.step_records[row], model.step_records[step])


def test_exporting_again_gives_the_same_bytes(exporter: Exporter, quantizer: Quantizer, tmp_path: Path) -> None:
    first = exporter("symmetric").folder
    export(quantizer("symmetric"), tmp_path, progress=False)
    for path in first.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_fewer_steps_leave_no_graph_of_an_older_export(quantizer: Quantizer, tmp_path: Path) -> None:
    model = quantizer("symmetric")
    export(model, tmp_path, steps=range(3), progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    export(model, tmp_path, steps=range(1), progress=False)
    assert sorted(p.name for p in tmp_path.glob("*.onnx")) == ["step_000_cond.onnx", "step_000_uncond.onnx"]
    assert (tmp_path / "notes.txt").exists()


def test_interrupted_export_is_not_taken_for_a_finished_one(
    quantizer: Quantizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quantizer("symmetric")
    export(model, tmp_path, steps=range(1), progress=False)

    def fail(path: Path) -> None:
        raise ExportError(f"{path}: stopped")

    monkeypatch.setattr("tvm_flow.export.write.check_graph", fail)
    with pytest.raises(ExportError, match="stopped"):
        export(model, tmp_path, steps=range(1), progress=False)
    with pytest.raises(ExportError, match="expected a finished export"):
        load_exported(tmp_path)


def test_unfinished_and_foreign_folders(exporter: Exporter, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected a finished export"):
        load_exported(tmp_path)
    description = json.loads((exporter("symmetric").folder / "export.json").read_text())
    (tmp_path / "export.json").write_text(json.dumps(description | {"schema": 99}))
    with pytest.raises(ExportError, match="expected schema 2, got 99"):
        load_exported(tmp_path)


@pytest.mark.parametrize("name", ["step_000_cond.onnx", "weights.bin", "thesis.txt"])
def test_a_folder_of_something_else_is_left_alone(quantizer: Quantizer, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExportError, match="expected nothing, an empty folder or an export to replace, got a folder"):
        export(quantizer("symmetric"), tmp_path, steps=range(1), progress=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
    with pytest.raises(ExportError, match="got a file; choose another output"):
        export(quantizer("symmetric"), tmp_path / name, steps=range(1), progress=False)


@pytest.mark.parametrize("moment", ["write_json", "check_graph", "WeightFile.tensor"])
def test_what_an_interrupted_export_left_is_replaced(
    quantizer: Quantizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"tvm_flow.export.write.{moment}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(quantizer("symmetric"), tmp_path, steps=range(1), progress=False)
    monkeypatch.undo()
    assert len(export(quantizer("symmetric"), tmp_path, steps=range(1), progress=False).graphs) == 1


def damaged(exported: Path, folder: Path, change: dict[str, object], without: str = "") -> None:
    """A copy of the export in ``folder`` whose export.json has other values."""
    shutil.copytree(exported, folder, dirs_exist_ok=True)
    description = json.loads((exported / "export.json").read_text()) | change
    description.pop(without, None)
    (folder / "export.json").write_text(json.dumps(description))


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_truncated_tables_are_an_error(exporter: Exporter, tmp_path: Path, length: int) -> None:
    damaged(exporter("symmetric").folder, tmp_path, {})
    tables = (tmp_path / "tables.safetensors").read_bytes()
    (tmp_path / "tables.safetensors").write_bytes(tables[:length])
    with pytest.raises(ExportError, match=r"expected the tables and keys of an export, got Safetensor.*; export again"):
        load_exported(tmp_path)
    (tmp_path / "tables.safetensors").unlink()
    with pytest.raises(ExportError, match="expected the tables and keys of an export, got FileNotFoundError"):
        load_exported(tmp_path)


@pytest.mark.parametrize("key", ["graphs", "folds", "latent", "text", "sampler", "model", "provenance"])
def test_a_description_that_lacks_a_key_is_an_error(exporter: Exporter, tmp_path: Path, key: str) -> None:
    damaged(exporter("symmetric").folder, tmp_path, {}, key)
    with pytest.raises(ExportError, match=f"got KeyError: '{key}'"):
        load_exported(tmp_path)


@pytest.mark.parametrize(
    "change", [{"graphs": 3}, {"graphs": [3]}, {"folds": []}, {"folds": {"x": 0}}, {"latent": None}, {"text": [1]}]
)
def test_a_description_of_other_types_is_an_error(
    exporter: Exporter, tmp_path: Path, change: dict[str, object]
) -> None:
    damaged(exporter("symmetric").folder, tmp_path, change)
    with pytest.raises(ExportError, match="expected the tables and keys of an export"):
        load_exported(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_a_description_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(ExportError, match="expected a mapping, got"):
        load_exported(tmp_path)


@pytest.mark.parametrize("kind", ["NoSuchOperator", "MatMul"])
def test_checker_failures_are_export_errors(tmp_path: Path, kind: str) -> None:
    """An operator that ONNX lacks, and shapes that do not fit: the checker raises two different errors."""
    from tvm_flow.export.write import check_graph

    writer = GraphWriter(WeightFile("weights.bin"))
    graph = writer.model({"x": (2, 3)}, writer.op(kind, ["x", "x"]), (2, 2), "y")
    (tmp_path / "bad.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ExportError, match="checker says"):
        check_graph(tmp_path / "bad.onnx")


# the writer


def test_weight_file_refuses_two_values_under_one_name() -> None:
    weights = WeightFile("weights.bin")
    weights.tensor("w", np.zeros((2, 2), np.float32))
    weights.tensor("w", np.zeros((2, 2), np.float32))
    assert weights.size == 16
    for other in (np.ones((2, 2), np.float32), np.zeros(4, np.float32), np.zeros((2, 2), np.int32)):
        with pytest.raises(ExportError, match="'w': expected one value"):
            weights.tensor("w", other)


def test_external_tensors_are_read_back_whatever_their_memory_order(tmp_path: Path) -> None:
    weights = WeightFile("weights.bin", stream := BytesIO())
    writer = GraphWriter(weights)
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3).T
    product = writer.op("MatMul", ["x", writer.shared("w", matrix)])
    total = writer.op("Add", [product, writer.own("b", np.array(2, np.float32))])
    graph = writer.model({"x": (1, 3)}, total, (1, 2), "y")
    (tmp_path / "weights.bin").write_bytes(stream.getvalue())
    (tmp_path / "g.onnx").write_bytes(graph.SerializeToString())
    x = np.array([[1, 10, 100]], np.float32)
    np.testing.assert_array_equal(onnxruntime_outputs(str(tmp_path / "g.onnx"), {"x": x})[0], x @ matrix + 2)


def test_integer_vectors_are_shared_inside_a_graph() -> None:
    writer = GraphWriter(WeightFile("weights.bin"))
    assert writer.integers(-1, 2) == writer.integers(-1, 2) != writer.integers(1, 2)
    assert len(writer.initializers) == 2
