"""The quantized model's file: round trip, equal bytes, and every way it can be wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tvm_flow.calibrate import Ranges
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyModel
from tvm_flow.quantize import (
    KeepFloat,
    QuantizedModel,
    Recipe,
    load_quantized,
    quantize_model,
    save_quantized,
)

QKV = "spatial_blocks.0.attn.qkv"


@pytest.fixture(scope="module")
def quantized(model: AnyModel, ranges: Ranges) -> QuantizedModel:
    rules = (KeepFloat("*.mlp.fc2", (0, 1)), KeepFloat("*.attn.proj"))
    return quantize_model(model, ranges, Recipe(activation="asymmetric", keep_float=rules))


def equal(a: object, b: object) -> bool:
    """Deep equality of dataclasses, mappings and arrays, types included."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(equal(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.parametrize("model", ["STDiT3", "STDiT"], indirect=True)
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(smoothing=None), Recipe(ranges="all_steps")])
def test_round_trip_of_recipes(model: AnyModel, ranges: Ranges, recipe: Recipe, tmp_path: Path) -> None:
    made = quantize_model(model, ranges, recipe)
    save_quantized(tmp_path / "q", made)
    assert equal(load_quantized(tmp_path / "q"), made)


def test_round_trip_with_zero_points_and_float_layers(quantized: QuantizedModel, tmp_path: Path) -> None:
    save_quantized(tmp_path / "q", quantized)
    found = load_quantized(tmp_path / "q")
    assert equal(found, quantized)
    assert list(found.layers) == list(quantized.layers) and list(found.folds) == list(quantized.folds)
    save_quantized(tmp_path / "again", found)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "q").read_bytes()


def test_an_absent_or_torn_file_is_refused(quantized: QuantizedModel, tmp_path: Path) -> None:
    path = tmp_path / "q"
    with pytest.raises(QuantizeError, match="q: expected a readable quantized model"):
        load_quantized(path)
    save_quantized(path, quantized)
    whole = path.read_bytes()
    for size in (0, 7, 1000, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(QuantizeError, match=r"q: expected a readable quantized model, got: .*; quantize again"):
            load_quantized(path)


def test_a_failed_write_keeps_the_file_before(
    quantized: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_quantized(tmp_path / "q", quantized)
    before = (tmp_path / "q").read_bytes()

    def torn(_tensors: object, path: Path, _metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("tvm_flow.quantize.file.save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        save_quantized(tmp_path / "q", quantized)
    assert (tmp_path / "q").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["q"]


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        ({}, {"format": 1}, "q: expected format 2, got 1; quantize again"),
        ({}, {"config": {}}, "q: model_type: expected one of .*, got None"),
        ({}, {"sampler": {"pace": 2}}, "q: sampler: unknown keys"),
        ({}, {"recipe": {"bits": 4}}, "q: recipe: unknown keys"),
        ({}, {"latent": [4]}, "q: expected a readable quantized model, got: ValueError"),
        (
            {},
            {"folds": [["spatial_blocks.9.msa_gate", 0]]},
            "q: expected a readable quantized .*spatial_blocks.9",
        ),
        ({"rope_cos": None}, {}, "q: expected a readable quantized model, got: KeyError.*rope_cos"),
        ({f"layers.{QKV}.bias": None}, {}, f"q: {QKV}: expected bias, scale and float_steps; quantize again"),
        ({f"layers.{QKV}.weight_q": np.zeros((2, 2))}, {}, f"q: {QKV}.weight_q: expected int8, got float64"),
        (
            {f"layers.{QKV}.weight_q": None},
            {},
            f"q: {QKV}.weight_q: expected one exactly when a step is quantized",
        ),
        (
            {f"layers.{QKV}.weight_f": np.zeros((2, 2), np.float32)},
            {},
            f"q: {QKV}.weight_f: expected one exactly when a step stays in float",
        ),
        (
            {f"layers.{QKV}.scale": np.ones((3, 2), np.float32)},
            {},
            rf"q: {QKV}.scale: expected \[4, 2\], got \[3, 2\]; quantize again",
        ),
        (
            {f"layers.{QKV}.scale": np.zeros((4, 2), np.float32)},
            {},
            f"q: {QKV}.scale: expected positive normal numbers, got 0.0 to 0.0",
        ),
        (
            {f"layers.{QKV}.weight_scale": np.full(96, np.nan, np.float32)},
            {},
            f"q: {QKV}.weight_scale: expected positive normal numbers, got nan",
        ),
    ],
)
def test_a_file_with_something_else_in_it_is_refused(
    quantized: QuantizedModel,
    tmp_path: Path,
    tensors: dict[str, np.ndarray | None],
    changes: dict[str, object],
    message: str,
) -> None:
    path = tmp_path / "q"
    save_quantized(path, quantized)
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["tvm_flow"])
    content = {name: value for name, value in {**load_file(path), **tensors}.items() if value is not None}
    save_file(content, path, {"tvm_flow": json.dumps({**metadata, **changes})})
    with pytest.raises(QuantizeError, match=message):
        load_quantized(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(1)}, tmp_path / "q")
    with pytest.raises(QuantizeError, match=r"q: expected a readable quantized model, got: KeyError\('tvm_flow'\)"):
        load_quantized(tmp_path / "q")


def test_evaluate_refuses_unknown_folds_and_steps(quantized: QuantizedModel) -> None:
    with pytest.raises(QuantizeError, match=r"fold 'final.gate': unknown; folds are called spatial_blocks.0.msa_shift"):
        quantized.evaluate("final.gate", 0)
    for step in (-1, 4):
        with pytest.raises(QuantizeError, match=f"step: expected 0 to 3, got {step}"):
            quantized.evaluate("final.scale", step)
