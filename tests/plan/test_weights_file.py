"""Weights are a file that anyone's reader of safetensors opens, with values where libraries look for them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.weights_file import FIRST_ALIGNMENT

ARRAYS = {
    "blocks.0.weight": np.arange(-100, 92, dtype=np.int8).reshape(3, 64),
    "bias": np.linspace(0, 1, 7, dtype=np.float32),
    "sums": np.arange(5, dtype=np.int32),
    "codes": np.arange(9, dtype=np.uint8).reshape(3, 3),
    "one": np.float32(3.5),
}


def write(path: Path, room: int, arrays: dict[str, np.ndarray] = ARRAYS) -> tuple[WeightStore, dict[str, int]]:
    store = WeightStore(path, room)
    offsets = {name: store.add(array, name) for name, array in arrays.items()}
    store.finish()
    return store, offsets


@pytest.mark.parametrize("room", [0, 16384, 65536])
def test_a_reader_finds_every_tensor_and_libraries_every_byte(tmp_path: Path, room: int) -> None:
    store, offsets = write(tmp_path / "w", room)
    with safe_open(tmp_path / "w", framework="numpy") as file:
        read = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    data = (tmp_path / "w").read_bytes()
    assert store.first % FIRST_ALIGNMENT == 0 and store.first >= max(room, FIRST_ALIGNMENT)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array)
        at = store.first + offsets[name]
        assert offsets[name] % 64 == 0 and data[at : at + array.nbytes] == array.tobytes()
    assert bytes(store.file) == data and bytes(store.data) == data[store.first : -32]
    assert bytes(read["sha256"]) == data[-32:] == hashlib.sha256(data[:-32]).digest()
    assert {name for name in read if name not in ARRAYS} == {"sha256", *(f"padding.{n}" for n in (3, 5, 7))}


def test_names_that_are_taken_get_a_number_and_equal_arrays_one_place(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "w")
    places = [store.add(np.full(64, value, np.int8), "weight") for value in (1, 2, 1)]
    store.finish()
    assert places == [0, 64, 0]
    with safe_open(tmp_path / "w", framework="numpy") as file:
        assert sorted(file.keys()) == ["sha256", "weight", "weight.2"]


def test_values_move_when_the_names_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts, the last ones first: they overlap."""
    monkeypatch.setattr("tvm_flow.plan.weights_file._CHUNK", 1000)
    random = np.random.default_rng(1)
    arrays = {f"{'layer.' * 40}{n}": random.integers(0, 256, 300 + n, np.uint8) for n in range(200)}
    store, offsets = write(tmp_path / "w", FIRST_ALIGNMENT, arrays)
    assert store.first > FIRST_ALIGNMENT
    whole = np.frombuffer(store.data, np.uint8)
    for name, array in arrays.items():
        assert np.array_equal(whole[offsets[name] : offsets[name] + len(array)], array)
    assert set(arrays) <= set(safe_open(tmp_path / "w", framework="numpy").keys())


def test_the_bytes_follow_from_what_was_added(tmp_path: Path) -> None:
    write(tmp_path / "a", 16384), write(tmp_path / "b", 16384)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_temporary_file_is_finished_alike() -> None:
    store = WeightStore()
    store.add(np.ones(3, np.float32), "w")
    store.finish()
    assert len(store.file) == store.first + 12 + 32 and len(store.data) == 12
