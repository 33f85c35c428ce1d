"""The ranges file: round trip, merging, and every way it can be wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tvm_flow.calibrate import CalibrationPrompt, LayerRanges, Ranges, load_ranges, merge, save_ranges
from tvm_flow.causes import Cause
from tvm_flow.errors import CalibrationError
from tvm_flow.pipeline.stages import merge_stage
from tvm_flow.sampler import SamplerConfig

SAMPLER = SamplerConfig(steps=3, frames=4, height=32, width=32)


def layer(seed: int, channels: int = 5, shift: float = 0.0) -> LayerRanges:
    x = np.random.default_rng(seed).normal(shift, 1, (3, 2, 7, channels)).astype(np.float32)
    return LayerRanges(x.min((2, 3)), x.max((2, 3)), np.abs(x).max(2))


def ranges(seed: int = 0, **changes: object) -> Ranges:
    prompts = (CalibrationPrompt(f"caption {seed}", seed),)
    made = Ranges("ab" * 32, SAMPLER, (4, 2, 6, 6), prompts, {"a.x": layer(seed), "b.y": layer(seed + 1, 3, 9.0)})
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def same(a: Ranges, b: Ranges) -> bool:
    return set(a.layers) == set(b.layers) and all(
        np.array_equal(getattr(a.layers[name], part), getattr(b.layers[name], part))
        for name in a.layers
        for part in ("min", "max", "absmax")
    )


def test_round_trip(tmp_path: Path) -> None:
    path, made = tmp_path / "ranges.safetensors", ranges()
    save_ranges(path, made)
    found = load_ranges(path)
    assert same(found, made) and found.prompts == made.prompts
    assert (found.model_sha256, found.sampler, found.latent) == (made.model_sha256, made.sampler, made.latent)


def test_equal_ranges_give_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        save_ranges(path, ranges())
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_tensor_names_are_those_of_the_format(tmp_path: Path) -> None:
    save_ranges(tmp_path / "r", ranges())
    tensors = load_file(tmp_path / "r")
    assert tensors["a.x.min"].shape == tensors["a.x.max"].shape == (3, 2)
    assert tensors["b.y.absmax"].shape == (3, 2, 3)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_merge_is_associative_commutative_and_idempotent(i: int, j: int, k: int) -> None:
    a, b, c = ranges(i), ranges(j), ranges(k)
    assert same(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert same(merge(a, b), merge(b, a))
    assert same(merge(a, a), a) and merge(a, a).prompts == a.prompts


def test_merge_is_elementwise_and_joins_prompts() -> None:
    a, b = ranges(1), ranges(2)
    both = merge(a, b)
    assert both.prompts == a.prompts + b.prompts
    np.testing.assert_array_equal(both.layers["a.x"].min, np.minimum(a.layers["a.x"].min, b.layers["a.x"].min))
    np.testing.assert_array_equal(both.layers["a.x"].max, np.maximum(a.layers["a.x"].max, b.layers["a.x"].max))
    stacked = np.maximum(a.layers["b.y"].absmax, b.layers["b.y"].absmax)
    np.testing.assert_array_equal(both.layers["b.y"].absmax, stacked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_sha256": "cd" * 32}, "model_sha256 differs; have abab.* but cdcd"),
        ({"sampler": SamplerConfig(steps=4)}, r"sampler differs; have SamplerConfig\(steps=3"),
        ({"latent": (4, 2, 6, 8)}, r"latent differs; have \(4, 2, 6, 6\) but \(4, 2, 6, 8\)"),
        ({"layers": {"a.x": layer(0)}}, r"layers differs; have \['b.y'\] but \[\]"),
        (
            {"layers": {"a.x": layer(0), "b.y": layer(0)}},
            r"b.y.absmax differs; have \(3, 2, 3\) but \(3, 2, 5\)",
        ),
    ],
)
def test_merge_refuses_what_does_not_belong_together(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        merge(ranges(), ranges(**changes))


def test_ranges_that_are_not_finite_are_refused() -> None:
    good = layer(0)
    for part in ("min", "max", "absmax"):
        bad = getattr(good, part).copy()
        bad[..., 0] = np.nan
        with pytest.raises(CalibrationError, match=f"{part}: expected finite ranges"):
            dataclasses.replace(good, **{part: bad})


def test_ranges_that_contradict_each_other_are_refused() -> None:
    good = layer(0)
    with pytest.raises(CalibrationError, match="contradict each other"):
        dataclasses.replace(good, absmax=good.absmax * np.float32(0.5))
    with pytest.raises(CalibrationError, match="contradict each other"):
        LayerRanges(np.float32([[1.0]]), np.float32([[-1.0]]), np.float32([[[-1.0]]]))


def test_an_absent_torn_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with pytest.raises(CalibrationError, match="r: expected a readable ranges file"):
        load_ranges(path)
    save_ranges(path, ranges())
    whole = path.read_bytes()
    for size in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CalibrationError, match="r: expected a readable ranges file"):
            load_ranges(path)
    save_file({"x": np.zeros(1)}, path)
    with pytest.raises(CalibrationError, match=r"r: expected a readable ranges file.*tvm_flow"):
        load_ranges(path)


def rewrite(path: Path, tensors: dict[str, object] | None = None, **changes: object) -> None:
    """Save ranges with some tensors or metadata replaced (None removes a tensor)."""
    save_ranges(path, ranges())
    content: dict[str, object] = {**load_file(path), **(tensors or {})}
    metadata = {
        "format": 1,
        "model_sha256": "ab" * 32,
        "sampler": SAMPLER.to_dict(),
        "latent": [4, 2, 6, 6],
        "prompts": [],
        **changes,
    }
    kept = {name: tensor for name, tensor in content.items() if tensor is not None}
    save_file(kept, path, {"tvm_flow": json.dumps(metadata)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        ({}, {"format": 2}, "r: format: expected 1, got 2; calibrate again"),
        ({"a.x.min": None}, {}, "r: expected a readable ranges file, got: KeyError.*a.x.min"),
        ({"a.x.min": np.zeros((2, 2), np.float32)}, {}, r"a.x: expected float32 ranges of \(3, 2\)"),
        ({"a.x.min": np.zeros((3, 2))}, {}, r"a.x: expected float32 ranges of \(3, 2\).*float64"),
        ({"a.x.absmax": np.zeros((3, 2), np.float32)}, {}, "a.x: expected float32 ranges"),
        ({"a.x.max": np.full((3, 2), 99, np.float32)}, {}, "r: min, max and absmax contradict each other"),
        ({}, {"latent": [1, 2]}, "r: expected a readable ranges file"),
        ({}, {"prompts": [{"caption": "a"}]}, "r: expected a readable ranges file"),
        ({}, {"sampler": {"pace": 1}}, "r: expected a readable ranges file.*unknown keys"),
    ],
)
def test_a_file_of_another_shape_is_refused(
    tmp_path: Path, tensors: dict[str, object], changes: dict[str, object], message: str
) -> None:
    rewrite(tmp_path / "r", tensors, **changes)
    with pytest.raises(CalibrationError, match=message):
        load_ranges(tmp_path / "r")


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """One of each byte: also a number that becomes another between the same edges."""
    path = tmp_path / "r"
    save_ranges(path, ranges())
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            found = load_ranges(path)
        except CalibrationError:
            continue
        # A blank of the header's JSON that became another, say.
        assert same(found, ranges()) and found.prompts == ranges().prompts, at


def test_a_changed_value_is_named_with_its_cause(tmp_path: Path) -> None:
    path = tmp_path / "r"
    save_ranges(path, ranges())
    path.write_bytes(path.read_bytes()[:-1] + b"\x3f")
    with pytest.raises(
        CalibrationError, match=r"r: expected values whose sha256 is .* got .*calibrate again"
    ) as caught:
        load_ranges(path)
    assert caught.value.cause is Cause.CHANGED


def test_a_file_of_before_there_was_a_digest_is_joined_into_one_that_has_it(tmp_path: Path) -> None:
    rewrite(tmp_path / "old")
    with pytest.raises(CalibrationError, match=r"old: expected the sha256 .*calibrate --merge FILE --output NEW"):
        load_ranges(tmp_path / "old")
    merge_stage([tmp_path / "old"], tmp_path / "new")
    assert load_ranges(tmp_path / "new").layers.keys() == ranges().layers.keys()
