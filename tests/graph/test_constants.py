"""The rules that derive constants, each against the plainest numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.constants import (
    RULES,
    Constant,
    Derived,
    Given,
    evaluate,
    given_names,
    same_bits,
    shape_and_dtype,
)

OWN = sorted(
    name for name, rule in RULES.items() if rule.__module__.startswith(("tvm_flow.graph.", "tvm_flow.backends.cpu."))
)
"""Not those of other devices, which are there when their tests were imported before."""
EXTREMES = st.sampled_from([-128, -127, -1, 0, 1, 127])


def codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def test_given_constant_is_the_initializer_itself() -> None:
    array = np.arange(3.0)
    assert evaluate(Given("a"), {"a": array}) is array


def test_missing_initializer_is_named() -> None:
    with pytest.raises(ImportGraphError, match="'absent'"):
        evaluate(Derived("product", (Given("a"), Given("absent"))), {"a": np.ones(2, np.float32)})


def test_given_names_of_a_nested_expression() -> None:
    inner = Derived("product", (Given("a"), Given("b")))
    assert given_names(Derived("product", (inner, Given("a")))) == {"a", "b"}


def test_product_rounds_once_to_float32() -> None:
    rng = np.random.default_rng(0)
    a, b = np.float32(0.1), rng.uniform(0.001, 1, 1000).astype(np.float32)
    got = RULES["product"](np.asarray(a), b)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, (np.float64(a) * b.astype(np.float64)).astype(np.float32))


def test_to_signed_keeps_every_difference() -> None:
    q = np.arange(256).astype(np.uint8)
    got = RULES["to_signed"](q)
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got.astype(int) + 128, q.astype(int))


def test_scalars_keep_their_shape() -> None:
    assert RULES["to_signed"](np.array(3, np.uint8)).shape == ()
    assert RULES["product"](np.array(1, np.float32), np.array(2, np.float32)).shape == ()


def test_transpose_is_contiguous() -> None:
    w = codes(np.random.default_rng(1), 3, 5)
    got = RULES["transpose"](w)
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, w.T)


def test_add_i32() -> None:
    a, b = np.array([1, -5], np.int32), np.array([2], np.int32)
    np.testing.assert_array_equal(RULES["add_i32"](a, b), [3, -3])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 7),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    EXTREMES,
    st.booleans(),
)
def test_zero_point_correction(k: int, n: int, m: int, seed: int, zx: int, per_channel: bool) -> None:
    """acc of raw codes - zw rows + correction is the sum of differences, for every zero point."""
    rng = np.random.default_rng(seed)
    x, w = codes(rng, m, k), codes(rng, k, n)
    zw = codes(rng, n) if per_channel else codes(rng)
    got = RULES["zero_point_correction"](np.array(zx, np.int8), w, zw)
    assert got.dtype == np.int32 and got.shape == (n,)
    raw = x.astype(int) @ w.astype(int) - zw.astype(int) * x.astype(int).sum(1, keepdims=True)
    np.testing.assert_array_equal(raw + got, (x.astype(int) - zx) @ (w.astype(int) - zw.astype(int)))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([4, 16, 32]),
    st.integers(0, 2**32 - 1),
)
def test_pack_columns_puts_each_weight_where_the_kernel_reads_it(
    steps: int, n: int, depth: int, columns: int, seed: int
) -> None:
    k = steps * depth
    w = codes(np.random.default_rng(seed), k, n)
    packed = RULES["pack_columns"](w, columns, depth)
    assert packed.shape == (-(-n // columns), steps, columns, depth) and packed.flags.c_contiguous
    for block in range(packed.shape[0]):
        for column in range(columns):
            plain = packed[block, :, column, :].reshape(k)
            channel = block * columns + column
            np.testing.assert_array_equal(plain, w[:, channel] if channel < n else np.zeros(k))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.sampled_from([1, 2, 4]), st.sampled_from([4, 8, 16]))
def test_unpack_undoes_pack(steps: int, n: int, depth: int, columns: int) -> None:
    k = steps * depth
    isa = Isa("test", frozenset(), lanes=columns, depth=depth, rows=1, vectors=1)
    product, w = Product(3, k, n, isa), codes(np.random.default_rng(n), k, n)
    packed = RULES["pack_columns"](w, columns, depth)
    assert packed.shape == product.packed_shape()
    np.testing.assert_array_equal(product.unpack(packed), w)


@pytest.mark.parametrize("rule", OWN)
def test_shapes_are_known_without_values(rule: str) -> None:
    rng = np.random.default_rng(0)
    w, bias = codes(rng, 8, 16), np.arange(16, dtype=np.int32)
    point, scale = np.array(3, np.int8), np.float32(0.5).reshape(())
    cases = {
        "product": ({"a": scale, "b": bias.astype(np.float32)}, ()),
        "to_signed": ({"a": w.view(np.uint8)}, ()),
        "transpose": ({"a": w}, ()),
        "zero_point_correction": ({"a": point, "b": w, "c": point}, ()),
        "add_i32": ({"a": bias, "b": bias}, ()),
        "pack_columns": ({"a": w}, (4, 4)),
        "pack_channels": ({"a": rng.standard_normal((4, 6, 3, 3)).astype(np.float32)}, (2, 4)),
        "pack_nibbles": ({"a": w >> 4}, (4, 4)),
        "quantize": ({"a": w.astype(np.float32), "b": scale, "c": point}, (1, 0)),
    }
    arrays, options = cases[rule]
    plain: Constant = Derived(rule, tuple(Given(name) for name in arrays), options)
    for constant in (plain, Derived("transpose", (plain,))):
        value = evaluate(constant, arrays)
        assert shape_and_dtype(constant, arrays) == (value.shape, str(value.dtype))


def test_bits_are_compared_not_values() -> None:
    zero = np.zeros(2, np.float32)
    assert same_bits(zero, zero) and same_bits(zero, zero.copy())
    assert not same_bits(zero, -zero), "two zeros"
    assert not same_bits(zero, zero.reshape(2, 1)) and not same_bits(zero, zero.view(np.int32))
    nan = np.full(2, np.nan, np.float32)
    assert same_bits(nan, nan.copy())
