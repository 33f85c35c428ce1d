"""Tensors as views of their file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import save, save_file

from tvm_flow.quantize.mapped import map_tensors

KINDS = ("float64", "float32", "int64", "int32", "int16", "int8", "uint8", "bool")
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@given(st.lists(st.tuples(st.sampled_from(KINDS), SHAPES), max_size=6))
@settings(max_examples=50, deadline=None)
def test_what_safetensors_wrote_is_read(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, tuple[int, ...]]]
) -> None:
    rng = np.random.default_rng(len(parts))
    tensors = {f"t{i}": np.asarray(rng.random(shape) * 100, kind) for i, (kind, shape) in enumerate(parts)}
    path = tmp_path_factory.mktemp("mapped") / "x.safetensors"
    save_file(tensors, path, {"key": "value"})
    metadata, read = map_tensors(path)
    assert metadata == {"key": "value"} and set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(read[name], tensor)


def test_nothing_is_copied(tmp_path: Path) -> None:
    size = 1 << 22
    save_file({name: np.ones(size, np.int8) for name in "abcd"}, tmp_path / "x.safetensors")
    tracemalloc.start()
    _, tensors = map_tensors(tmp_path / "x.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size, "less than one tensor of four"
    assert not any(tensor.flags.owndata for tensor in tensors.values())


def test_writing_to_a_tensor_leaves_the_file(tmp_path: Path) -> None:
    save_file({"a": np.zeros(4, np.float32)}, tmp_path / "x.safetensors")
    map_tensors(tmp_path / "x.safetensors")[1]["a"][0] = 1
    assert not map_tensors(tmp_path / "x.safetensors")[1]["a"].any()


def test_damage_is_safetensors_to_name(tmp_path: Path) -> None:
    content = save({"a": np.zeros(4, np.float32)})
    for damaged in (b"", content[:-1], content[:12], b"\xff" * 8 + content[8:]):
        (tmp_path / "x.safetensors").write_bytes(damaged)
        with pytest.raises(SafetensorError):
            map_tensors(tmp_path / "x.safetensors")


def test_types_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    content = save({"a": np.zeros(4, np.float32)})
    (tmp_path / "x.safetensors").write_bytes(content.replace(b'"F32"', b'"U32"'))
    with pytest.raises(SafetensorError, match=r"a: expected a dtype of .*U8.*, got U32"):
        map_tensors(tmp_path / "x.safetensors")
