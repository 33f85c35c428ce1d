"""The constants of all variants come back bit for bit from the tables, by an independent reading of the header."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Constant, Derived, Given, evaluate
from tvm_flow.plan.arena import ALIGNMENT
from tvm_flow.plan.folds import AFFINE, COPY, FLIP, INTEGER, LESS, NONE, SCALE
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.tables import ConstantTables, encode_constants
from tvm_flow.quantize.quantized import Fold
from tvm_flow.toolchain.runtime_library import RUNTIME

Array = npt.NDArray[Any]
N = 5
NO_RECORDS = np.zeros((3, 0), np.float32)


def run_folds(tables: ConstantTables, variant: int, record: Array, weights: bytes) -> bytes:
    """The step block of a variant, as the comment of tvm_flow_library.h describes it, number by number."""
    block = bytearray(tables.step_bytes)
    values = tables.variant_values()[variant]

    def weight(offset: int, i: int, kind: str = "f") -> Any:
        number = struct.unpack_from(f"<{kind}", weights, offset + 4 * i)[0]
        return np.float32(number) if kind == "f" else number

    for row in tables.folds:
        for i in range(row.count):
            if row.op == COPY:
                raw = values[row.a + i].tobytes()
            elif row.op == LESS:
                (before,) = struct.unpack_from("<f", block, row.out + 4 * i)
                raw = (np.float32(before) - values[row.a + i]).tobytes()
            elif row.op == SCALE:
                raw = (values[row.a] * weight(row.b, i)).tobytes()
            elif row.op == AFFINE:
                total = record[row.a + i] + weight(row.b, i)
                raw = (total if row.c == NONE else total * weight(row.c, i)).tobytes()
            elif row.op == FLIP:
                raw = struct.pack("<I", struct.unpack("<I", values[row.a + i].tobytes())[0] ^ row.b)
            else:
                assert row.op == INTEGER
                raw = struct.pack("<i", int(values[row.a]) * weight(row.b, i, "i"))
            block[row.out + 4 * i : row.out + 4 * i + 4] = raw
    return bytes(block)


def check(
    constants: dict[str, Constant],
    variants: list[dict[str, Array]],
    folds: dict[str, Fold] | None = None,
    records: Array = NO_RECORDS,
    weights: WeightStore | None = None,
) -> ConstantTables:
    """Encode, read every constant of every variant back, and compare all bits."""
    weights = weights or WeightStore()
    members = [(min(v // 2, len(records) - 1), v % 2) for v in range(len(variants))]
    tables = encode_constants(constants, variants, members, folds or {}, records, weights)
    assert set(tables.places) == set(constants)
    assert len({len(values) for values in tables.variant_values()}) == 1
    assert all(np.isfinite(values).all() for values in tables.variant_values()), "a bundle refuses anything else"
    for v, given_values in enumerate(variants):
        spaces = {
            "weights": bytes(weights.data),
            "step": run_folds(tables, v, records[members[v][0]], bytes(weights.data)),
        }
        for name, constant in constants.items():
            wanted = evaluate(constant, given_values)
            space, offset = tables.places[name]
            assert offset % ALIGNMENT == 0
            assert spaces[space][offset : offset + wanted.nbytes] == wanted.tobytes(), (name, v)
    return tables


def floats(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ops(tables: ConstantTables) -> list[int]:
    return [row.op for row in tables.folds]


def test_what_never_changes_is_in_the_weights_alone() -> None:
    w = np.arange(12, dtype=np.int8).reshape(3, 4)
    tables = check({"w": Given("w"), "w.t": Derived("transpose", (Given("w"),))}, [{"w": w}, {"w": w.copy()}])
    assert {space for space, _ in tables.places.values()} == {"weights"}
    assert (tables.folds, tables.step_bytes) == ([], 0)
    assert len(tables.variant_values()[0]) == 0


def test_a_scalar_of_the_branch_times_a_shared_vector_is_a_scale() -> None:
    vector = floats(0, N)
    variants = [{"s": np.float32(10.0**-v).reshape(()), "v": vector} for v in range(6)]
    product = Derived("product", (Given("s"), Given("v")))
    tables = check({"p": product, "s": Given("s")}, variants)
    assert ops(tables) == [SCALE, COPY]
    assert len(tables.variant_values()[0]) == 1, "the product and the scalar itself share one number"


def test_a_scalar_times_a_vector_that_changes_too_is_copied() -> None:
    variants = [{"s": floats(v, 1), "v": floats(9 + v, N)} for v in range(3)]
    assert ops(check({"p": Derived("product", (Given("s"), Given("v")))}, variants)) == [COPY]


def test_a_vector_of_the_branch_times_a_shared_vector_is_copied() -> None:
    variants = [{"s": floats(v, N), "v": floats(9, N)} for v in range(3)]
    assert ops(check({"p": Derived("product", (Given("s"), Given("v")))}, variants)) == [COPY]


@pytest.mark.parametrize("gain", [True, False])
def test_what_is_affine_in_the_record_is_folded_from_it(gain: bool) -> None:
    records = floats(0, 3, 11)
    fold = Fold(4, floats(1, N), floats(2, N) if gain else None)
    variants = [{"m": fold.evaluate(records[v // 2])} for v in range(6)]
    tables = check({"m": Given("m")}, variants, {"m": fold}, records)
    assert [(row.op, row.a, row.c == NONE) for row in tables.folds] == [(AFFINE, 4, not gain)]
    assert len(tables.variant_values()[0]) == 0


def test_a_center_is_subtracted_from_what_is_folded() -> None:
    """What steps share of it is a slot of equal numbers, so that a bundle keeps it once."""
    records, center = floats(0, 3, 11), np.broadcast_to(floats(3, 2, N), (3, 2, N))
    fold = Fold(4, floats(1, N), floats(2, N), center)
    variants = [{"m": fold.at(records, v // 2, v % 2)} for v in range(6)]
    tables = check({"m": Given("m")}, variants, {"m": fold}, records)
    assert ops(tables) == [AFFINE, LESS]
    values = tables.variant_values()
    assert len(values[0]) == N
    assert all(np.array_equal(values[v], values[v % 2]) for v in range(6))


@pytest.mark.parametrize("zw", [0, 3])
def test_a_zero_point_of_the_branch_is_folded_in_integers(zw: int) -> None:
    """As raw bits in a float table these would be NaN: minus one is 0xffffffff."""
    w = np.random.default_rng(0).integers(-127, 128, (40, N)).astype(np.int8)
    points = np.array([-128, -1, 0, 1, 5, 127], np.int8)
    variants = [{"zx": z.reshape(1), "w": w, "zw": np.array([zw], np.int8)} for z in points]
    correction = Derived("zero_point_correction", (Given("zx"), Given("w"), Given("zw")))
    tables = check({"c": correction, "zx": Given("zx")}, variants)
    assert ops(tables) == [INTEGER, COPY]


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.int32, np.uint8])
@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_anything_else_is_copied_raw(dtype: Any, count: int) -> None:
    variants = [{"x": np.arange(v, v + count).astype(dtype)} for v in range(4)]
    assert ops(check({"x": Given("x")}, variants)) == [COPY]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint8])
@pytest.mark.parametrize("count", [4, 5, 700])
def test_integers_of_any_bits_are_flipped_into_finite_floats(dtype: Any, count: int) -> None:
    limits, rng = np.iinfo(dtype), np.random.default_rng(count)
    variants = [{"x": rng.integers(limits.min, limits.max + 1, count).astype(dtype)} for _ in range(40)]
    variants[0]["x"][:] = -1 if limits.min else 255
    tables = check({"x": Given("x")}, variants)
    assert set(ops(tables)) == {FLIP}
    assert sum(row.count for row in tables.folds) == -(-count * np.dtype(dtype).itemsize // 4)


def test_small_signed_integers_take_one_row() -> None:
    rng = np.random.default_rng(1)
    variants = [{"x": rng.integers(-9999, 9999, 300).astype(np.int32)} for _ in range(60)]
    assert ops(check({"x": Given("x")}, variants)) == [FLIP]


def test_a_word_with_every_exponent_is_refused_by_name() -> None:
    variants = [{"x": np.array([v << 23], np.uint32).view(np.int32)} for v in range(256)]
    with pytest.raises(BuildError, match="x: every exponent occurs in one word of 256 variants; compile fewer steps"):
        encode_constants({"x": Given("x")}, variants, [(0, 0)] * 256, {}, NO_RECORDS, WeightStore())


@pytest.mark.parametrize("value", [np.float32(np.inf), np.array([1, np.nan], np.float32)])
def test_bits_that_a_bundle_cannot_hold_are_refused_by_name(value: Array) -> None:
    variants = [{"odd": np.zeros_like(value)}, {"odd": np.asarray(value)}]
    with pytest.raises(BuildError, match=r"odd: expected .* finite floats, got .* keep this layer in float"):
        encode_constants({"odd": Given("odd")}, variants, [(0, 0), (0, 1)], {}, NO_RECORDS, WeightStore())


def test_zeros_of_different_sign_are_different_constants() -> None:
    variants = [{"x": np.array([0.0], np.float32)}, {"x": np.array([-0.0], np.float32)}]
    assert ops(check({"x": Given("x")}, variants)) == [COPY]


@pytest.mark.parametrize("part", ["base", "gain", "record", "value", "offset"])
def test_a_fold_that_is_wrong_by_one_bit_is_refused(part: str) -> None:
    records, base, gain = floats(0, 3, 11), floats(1, N), floats(2, N)
    value = Fold(4, base, gain).evaluate(records[1])
    arrays = {"base": base, "gain": gain, "record": records[1][4:9], "value": value}
    if part != "offset":
        arrays[part][2] = np.nextafter(arrays[part][2], np.float32(np.inf))
    fold = Fold(5 if part == "offset" else 4, base, gain)
    variants = [{"m": Fold(4, base, gain).evaluate(records[0])}, {"m": value}]
    if part in ("base", "gain"):
        variants[0]["m"] = fold.evaluate(records[0])
    with pytest.raises(BuildError, match=r"m, step [01]: expected its fold .*bit for bit.*export again"):
        encode_constants({"m": Given("m")}, variants, [(0, 0), (1, 0)], {"m": fold}, records, WeightStore())


def test_a_fold_past_the_record_is_refused() -> None:
    fold = Fold(8, floats(1, N), None)
    variants = [{"m": floats(3, N)}, {"m": floats(4, N)}]
    with pytest.raises(BuildError, match="m: expected its fold within the 11 numbers of a step record, got 8 to 13"):
        encode_constants({"m": Given("m")}, variants, [(0, 0), (1, 0)], {"m": fold}, floats(0, 3, 11), WeightStore())


def test_a_name_that_two_constants_use_cannot_mix_them_up() -> None:
    """A derived constant may carry the name of an initializer; the scalar of the fold must stay the initializer's."""
    variants = [{"s": floats(v, 1), "v": floats(9, 1)} for v in range(3)]
    constants: dict[str, Constant] = {
        "s": Derived("transpose", (Derived("product", (Given("s"), Given("v"))),)),
        "p": Derived("product", (Given("s"), Given("v"))),
    }
    check(constants, variants)


class TestWeightStore:
    def test_equal_arrays_are_stored_once(self) -> None:
        store = WeightStore()
        first = store.add(floats(0, N))
        assert store.add(floats(0, N).copy()) == first
        assert store.add(floats(1, N)) != first
        assert len(store.data) == ALIGNMENT + 4 * N

    def test_groups_share_one_store(self) -> None:
        store, w = WeightStore(), np.arange(100, dtype=np.int8)
        one = check({"a": Given("a")}, [{"a": w}], weights=store)
        size = len(store.data)
        two = check({"b": Given("b")}, [{"b": w.reshape(10, 10)}], weights=store)
        assert one.places["a"] == two.places["b"]
        assert len(store.data) == size

    @given(st.lists(st.binary(max_size=200), max_size=12))
    @settings(max_examples=100, deadline=None)
    def test_everything_is_found_where_it_was_put(self, contents: list[bytes]) -> None:
        store = WeightStore()
        offsets = [store.add(np.frombuffer(content, np.uint8)) for content in contents]
        for content, offset in zip(contents, offsets, strict=True):
            assert offset % ALIGNMENT == 0
            assert store.data[offset : offset + len(content)] == content


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_mixture_comes_back(data: st.DataObject) -> None:
    variants_count, records = data.draw(st.integers(1, 4)), floats(data.draw(st.integers(0, 99)), 3, 16)
    shared, constants, folds = {"v": floats(1, N)}, dict[str, Constant](), dict[str, Fold]()
    variants: list[dict[str, Array]] = [dict(shared) for _ in range(variants_count)]
    for i, kind in enumerate(data.draw(st.lists(st.sampled_from(["shared", "own", "scale", "affine"]), max_size=8))):
        name = f"{kind}{i}"
        constants[name] = Derived("product", (Given(name), Given("v"))) if kind == "scale" else Given(name)
        if kind == "affine":
            folds[name] = Fold(i, floats(i, N), floats(i + 1, N) if i % 2 else None)
        for v, values in enumerate(variants):
            if kind == "affine":
                values[name] = folds[name].evaluate(records[min(v // 2, 2)])
            else:
                values[name] = floats(100 * (kind != "shared") * v + i, 1 if kind == "scale" else N)
    check(constants, variants, folds, records)


def test_the_numbers_of_the_operations_are_those_of_the_header() -> None:
    header = (Path(RUNTIME) / "include" / "tvm_flow_library.h").read_text()
    numbers = {"COPY": COPY, "SCALE": SCALE, "AFFINE": AFFINE, "INTEGER": INTEGER, "LESS": LESS, "FLIP": FLIP}
    for name, number in numbers.items():
        assert f"TVM_FLOW_FOLD_{name} = {number}" in header
