"""External data lies where ONNX says: below the graph's folder, at an offset, of a length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, save
from support.onnx_graphs import model, node

from tvm_flow.errors import ImportGraphError
from tvm_flow.importer.load import load_onnx

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def stored(folder: Path, location: str, offset: int = 0, length: int | None = W.nbytes) -> Path:
    """x + w whose w is said to lie at ``location``; the same name without folders holds something else."""
    made = model([node("Add", "x w", "y")], {"x": W.shape}, {"y": W.shape}, {"w": W})
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": location, "offset": str(offset)} | ({} if length is None else {"length": str(length)})
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "w.bin").write_bytes(bytes(256))
    (folder / "g.onnx").write_bytes(made.SerializeToString())
    return folder / "g.onnx"


@pytest.mark.parametrize("location", ["sub/w.bin", "sub/deeper/w.bin", "./sub/w.bin"])
@pytest.mark.parametrize("length", [None, W.nbytes])
def test_folders_below_the_graph(tmp_path: Path, location: str, length: int | None) -> None:
    path = stored(tmp_path, location, 16, length)
    (tmp_path / location).parent.mkdir(parents=True)
    (tmp_path / location).write_bytes(bytes(16) + W.tobytes() + bytes(8))
    np.testing.assert_array_equal(load_onnx(path).given["w"], W)
    if length is not None:  # without one, onnx takes the rest of the file
        assert onnx.load(str(path)).graph.initializer[0].raw_data == W.tobytes()


@pytest.mark.parametrize("length", [0, W.nbytes - 4, W.nbytes + 4])
def test_another_length_than_the_tensor_has(tmp_path: Path, length: int) -> None:
    with pytest.raises(ImportGraphError, match=f"w: expected external data of 48 bytes.*says {length};"):
        load_onnx(stored(tmp_path, "w.bin", 0, length))


@pytest.mark.parametrize("offset", [-4, 212, 1 << 40])
def test_an_offset_that_the_file_does_not_have(tmp_path: Path, offset: int) -> None:
    with pytest.raises(ImportGraphError, match=f"48 bytes of w at {offset}, the file has 256"):
        load_onnx(stored(tmp_path, "w.bin", offset))


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "link/secret.bin", "linked.bin"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "link").symlink_to(tmp_path)
    (inside / "linked.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ImportGraphError, match="w: expected external data below the graph's folder"):
        load_onnx(stored(inside, location))


def test_an_absolute_place_is_refused_even_inside(tmp_path: Path) -> None:
    with pytest.raises(ImportGraphError, match="below the graph's folder"):
        load_onnx(stored(tmp_path, str(tmp_path / "w.bin")))


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "store.bin").write_bytes(W.tobytes())
    (tmp_path / "alias.bin").symlink_to("store.bin")
    np.testing.assert_array_equal(load_onnx(stored(tmp_path, "alias.bin")).given["w"], W)


def test_a_graph_reached_by_a_link_keeps_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = stored(tmp_path / "real", "v.bin")
    (tmp_path / "real" / "v.bin").write_bytes(W.tobytes())
    (tmp_path / "link").symlink_to("real")
    np.testing.assert_array_equal(load_onnx(tmp_path / "link" / path.name).given["w"], W)
    save(model([node("Add", "x x", "y")], {"x": (1,)}, {"y": (1,)}), str(tmp_path / "plain.onnx"))
    assert load_onnx(tmp_path / "plain.onnx").inputs == ("x",)
