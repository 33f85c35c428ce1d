"""Values are views of the files that hold them; what decides a structure is told from what does not."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, save
from support.exported_model import Exporter
from support.onnx_graphs import model, node, qdq

from tvm_flow.errors import ImportGraphError
from tvm_flow.importer import step_groups
from tvm_flow.importer.initializers import ExternalFiles
from tvm_flow.importer.load import import_split, load_onnx, read_like, read_onnx
from tvm_flow.importer.step_groups import import_graph, import_steps


def linear(path: Path, **changes: object) -> Path:
    """x, quantized, times an int8 matrix; the whole graph in one file."""
    constants = {
        "s": np.float32(0.1),
        "z": np.int8(3),
        "w": np.eye(4, dtype=np.int8),
        "ws": np.float32(1),
        "wz": np.int8(0),
        "shape": np.array([2, 4]),
    }
    nodes = [*qdq("x", "dx"), node("DequantizeLinear", "w ws wz", "dw"), node("MatMul", "dx dw", "p")]
    nodes.append(node("Reshape", "p shape", "y"))
    save(model(nodes, {"x": (2, 4)}, {"y": (2, 4)}, constants | changes), str(path))  # type: ignore[arg-type]
    return path


def test_external_values_are_views_of_one_map(exporter: Exporter) -> None:
    """As numpy reads them itself, and one array for every graph that names the place."""
    exported, files = exporter("symmetric"), ExternalFiles()
    first, second = (read_onnx(exported.graphs[step][0], files) for step in (0, 1))
    graph = onnx.load(str(exported.graphs[0][0])).graph
    for tensor in graph.initializer:
        if tensor.name in first.values:
            np.testing.assert_array_equal(first.values[tensor.name], numpy_helper.to_array(tensor))
    shared = [name for name in first.values if name.endswith((".weight_q", ".weight_scale", ".bias"))]
    assert len(shared) >= 14 * 3 and len(files.maps) == 1
    for name in shared:
        value = first.values[name]
        assert second.values[name] is value
        assert not value.flags.owndata and not value.flags.writeable


def test_import_does_not_copy_weights(tmp_path: Path) -> None:
    """A 4 MB matrix in a file beside the graph: import touches a small part of that."""
    size = 2048
    weight = np.ones((size, size), np.int8)
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": weight, "ws": np.float32(1)}
    nodes = [*qdq("x", "dx"), node("DequantizeLinear", "w ws", "dw"), node("MatMul", "dx dw", "y")]
    made = model(nodes, {"x": (2, size)}, {"y": (2, size)}, constants)
    save(made, str(tmp_path / "g.onnx"), save_as_external_data=True, location="w.bin", size_threshold=1024)
    import_graph(tmp_path / "g.onnx")
    tracemalloc.start()
    graph = import_graph(tmp_path / "g.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert graph.left_in_float == () and not graph.given["w"].flags.owndata
    assert peak < weight.nbytes // 4


def test_tvm_sees_values_of_structure_alone(tmp_path: Path) -> None:
    split = read_onnx(linear(tmp_path / "g.onnx"))
    assert [tensor.name for tensor in split.structure.graph.initializer] == ["shape"]
    assert set(split.values) == {"s", "z", "w", "ws", "wz"} and split.inputs == ("x",)
    graph = import_split(split)
    assert graph.inputs == ("x",) and set(graph.given) >= set(split.values)


def test_a_skeleton_is_all_but_opaque_bytes(tmp_path: Path) -> None:
    known = read_onnx(linear(tmp_path / "known.onnx"))
    same = read_like(linear(tmp_path / "same.onnx", s=np.float32(0.7), z=np.int8(0)), known)
    assert same is not None and (float(same["s"]), int(same["z"])) == (np.float32(0.7), 0)
    for name, change in {
        "shape": {"shape": np.array([2, -1])},
        "type": {"z": np.uint8(3)},
        "size": {"ws": np.ones(4, np.float32)},
    }.items():
        assert read_like(linear(tmp_path / f"{name}.onnx", **change), known) is None


def count_imports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = step_groups.import_whole

    def watch(split: object, name: str) -> object:
        seen.append(name)
        return real(split, name)  # type: ignore[arg-type]

    monkeypatch.setattr(step_groups, "import_whole", watch)
    return seen


def test_steps_of_one_structure_are_imported_once(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_imports(monkeypatch)
    import_steps(exporter("symmetric").graphs, progress=False)
    assert len(seen) == 1
    import_steps(exporter("mixed").graphs, progress=False)
    assert len(seen) == 3, "steps that keep a layer in float are another structure"


def test_a_value_that_decided_something_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight's zero point of zero leaves terms out: a graph with another one is not the same."""
    seen = count_imports(monkeypatch)
    paths = [linear(tmp_path / f"{i}.onnx", wz=np.int8(wz)) for i, wz in enumerate((0, 0, 5, 0))]
    groups = import_steps([paths], progress=False)
    assert [group.members for group in groups] == [((0, 0), (0, 1), (0, 3)), ((0, 2),)]
    assert len(seen) == 2
    assert groups[0].graph.decisive == {"wz"} and groups[0].graph.scales == {"s", "ws"}


def test_a_scale_that_is_none_is_found_in_a_later_step(tmp_path: Path) -> None:
    paths = [linear(tmp_path / f"{i}.onnx", s=np.float32(scale)) for i, scale in enumerate((0.1, -0.1))]
    with pytest.raises(ImportGraphError, match="s: expected a positive float32 scale"):
        import_steps([paths], progress=False)


def test_folders_are_not_mixed_up(exporter: Exporter, tmp_path: Path) -> None:
    """Equal places of two folders' weight files are not equal values."""
    source = exporter("symmetric")
    shutil.copytree(source.folder, tmp_path / "other")
    weights = bytearray((tmp_path / "other" / "weights.bin").read_bytes())
    weights[:] = bytes(len(weights))
    (tmp_path / "other" / "weights.bin").write_bytes(weights)
    second = tmp_path / "other" / source.graphs[0][0].name
    split = read_onnx(second)
    name = next(name for name in split.values if name.endswith(".weight_q"))
    assert not split.values[name].any() and load_onnx(source.graphs[0][0]).given[name].any()


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd"])
def test_external_data_stays_in_its_folder(exporter: Exporter, tmp_path: Path, location: str) -> None:
    graph = onnx.load(str(exporter("symmetric").graphs[0][0]), load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (tmp_path / "inside").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 20))
    (tmp_path / "inside" / "g.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ImportGraphError, match="expected a readable ONNX graph with its weight file beside it"):
        import_graph(tmp_path / "inside" / "g.onnx")
