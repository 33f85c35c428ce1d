"""Attention in blocks of keys, against the reference's bounds: ragged counts, extreme scores, what is not finite."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm
from support.attentions import attention, operands
from support.execution import call_kernel, compare, compile_functions

from tvm_flow.backends.cpu.attention_tiles import (
    BLOCK,
    GROUP_ROWS,
    TRIED_BLOCK,
    TRIED_BYTES,
    Layout,
    layout_of,
    span_of,
    streamed_space,
)
from tvm_flow.backends.cpu.choices import AttentionChoice
from tvm_flow.backends.cpu.codegen import float_kernel
from tvm_flow.backends.cpu.registers import PLAIN, Registers, registers_of
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.backends.cpu.streaming import streamed
from tvm_flow.errors import BuildError
from tvm_flow.numerics.reference import execute
from tvm_flow.target.spec import detect_host, load_target

Array = np.ndarray[Any, Any]
HOST = registers_of(detect_host().features)
CASES = [
    *(((1, 2, 4, 24, 1), False), ((2, 2, 13, 24, 7), True), ((1, 1, 13, 72, 120), False), ((1, 2, 1, 24, 257), True)),
    *(((2, 1, 16, 72, 300), True), ((1, 1, 4, 24, 1000), False), ((1, 1, 4, 24, 1000), True)),
    *(((1, 1, 6, 72, 1024), False), ((1, 1, 2, 7, 1009), True)),
]
"""Batch, heads, M, D, S, masked or not: one row, primes, one key, one block of keys and several, whole and ragged."""


def kernel(function: Any, name: str = "a", registers: Registers = HOST, choice: AttentionChoice | None = None) -> Any:
    found = as_attention(function)
    assert found is not None
    return streamed(name, found, layout_of(found, registers, choice))


@pytest.fixture(scope="module")
def module() -> Any:
    """A kernel for each of `CASES`."""
    return compile_functions({(name := name_of(*case)): kernel(attention(*case[0], case[1]), name) for case in CASES})


def name_of(shape: tuple[int, ...], masked: bool) -> str:
    return "_".join(map(str, ("masked" if masked else "all", *shape)))


def checked(module: Any, shape: tuple[int, ...], masked: bool, inputs: list[Array]) -> Array:
    """The kernel's output, which the reference allows."""
    expected: Any = execute(attention(*shape, masked), inputs)
    got = call_kernel(module, name_of(shape, masked), inputs, expected.value.shape, "float32")
    compare(expected, got, name_of(shape, masked))
    return got


@pytest.mark.parametrize(("shape", "masked"), CASES)
def test_every_shape_within_the_references_bounds(module: Any, shape: tuple[int, ...], masked: bool) -> None:
    for scale in (0.01, 1.0, 30.0):
        q, *others = operands(attention(*shape, masked))
        got = checked(module, shape, masked, [q * np.float32(scale), *others])
        assert np.isfinite(got).all()


def growing(keys: int, depth: int) -> tuple[Array, Array]:
    """A row, and keys of which each has a larger score than those before, by 0.4."""
    q, k = np.zeros((1, 1, 4, depth), np.float32), np.zeros((1, 1, depth, keys), np.float32)
    q[..., 0], k[..., 0, :] = 1.0, 0.4 * np.arange(keys)
    return q, k


@pytest.mark.parametrize("direction", [1, -1])
def test_every_block_may_hold_the_largest_score(module: Any, direction: int) -> None:
    """What was summed before is scaled down, to nothing at last; or nothing that follows counts."""
    shape = (1, 1, 4, 24, 1000)
    q, k = growing(1000, 24)
    v = operands(attention(*shape, False))[2]
    checked(module, shape, False, [q, np.ascontiguousarray(k[..., ::direction]), v])


def test_scores_at_the_ends_of_float32_do_not_overflow(module: Any) -> None:
    shape = (1, 1, 4, 24, 1000)
    q, k = growing(1000, 24)
    v = operands(attention(*shape, False))[2]
    k[..., 0, :] = np.linspace(-3e38, 3e38, 1000)
    got = checked(module, shape, False, [q, k, v])
    assert np.array_equal(got[0, 0, 0], v[0, 0, -1]), "one key has all the weight"


def test_masked_keys_weigh_nothing_whatever_their_block(module: Any) -> None:
    """By -1e9 or by negative infinity, also where these are all keys of the first block, or of the last."""
    shape = (1, 1, 4, 24, 1000)
    q, k, v, _ = operands(attention(*shape, True))
    for here in (slice(0, 300), slice(700, 1000), slice(123, 124)):
        for least in (-1e9, -np.inf):
            mask = np.full(1000, least, np.float32)
            mask[here] = 0.0
            results = []
            for other in (1.0, 1e30):
                values = np.full_like(v, other)
                values[..., here, :] = v[..., here, :]
                results.append(
                    call_kernel(module, name_of(shape, True), [q, k, values, mask], (1, 1, 4, 24), "float32")
                )
            assert np.array_equal(*results) and np.isfinite(results[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", [0, 299, 999])
def test_what_is_not_finite_makes_rows_not_a_number_where_the_reference_says_so(
    module: Any, value: float, key: int
) -> None:
    shape = (1, 1, 4, 24, 1000)
    q, k, v, mask = operands(attention(*shape, True))
    scored = [q.copy(), k, v, mask]
    scored[0][0, 0, 1, 3] = value
    got = checked(module, shape, True, scored)
    assert np.isnan(got[0, 0, 1]).all() and np.isfinite(got[0, 0, [0, 2, 3]]).all()
    added = [q, k, v, np.where(np.arange(1000) == key, np.float32(value), mask)]
    got = checked(module, shape, True, added)
    assert np.isfinite(got).all() if value == -np.inf else np.isnan(got).all()


def test_a_row_without_keys_is_not_a_number(module: Any) -> None:
    shape = (1, 1, 4, 24, 1000)
    q, k, v, mask = operands(attention(*shape, True))
    assert np.isnan(checked(module, shape, True, [q, k, v, np.full_like(mask, -np.inf)])).all()


def test_every_choice_gives_the_bits_of_the_default_or_with_other_blocks_of_keys_what_the_bound_allows(
    module: Any,
) -> None:
    shape = (2, 1, 16, 72, 300)
    function, inputs = attention(*shape, True), operands(attention(*shape, True))
    cuts = [(1, 64, 0), (8, 16, 8)]
    choices = {f"c{i}": AttentionChoice(r, c, i % 2 == 0, 0, group) for i, (r, c, group) in enumerate(cuts)}
    choices["many"] = AttentionChoice(4, 24, False, 7)
    others = compile_functions({name: kernel(function, name, choice=choice) for name, choice in choices.items()})
    expected, reference = checked(module, shape, True, inputs), execute(function, inputs)
    for name, choice in choices.items():
        got = call_kernel(others, name, inputs, expected.shape, "float32")
        compare(reference, got, name)
        assert np.array_equal(got, expected) is (choice.blocks == 0), name


@pytest.mark.parametrize(
    ("choice", "wrong"),
    [
        (AttentionChoice(3, 24, False), "expected rows that divide 16"),
        (AttentionChoice(4, 24, False, 64), "expected blocks that 300 keys fill"),
        (AttentionChoice(4, 24, False, 29), "expected blocks that 300 keys fill"),
    ],
)
def test_a_choice_of_another_attention_is_refused(choice: AttentionChoice, wrong: str) -> None:
    with pytest.raises(BuildError, match=wrong):
        kernel(attention(1, 1, 16, 24, 300, False), choice=choice)


@pytest.mark.parametrize(("rows", "keys"), [(64, 300), (256, 1024), (64, 64), (120, 4096)])
@pytest.mark.parametrize("registers", [HOST, PLAIN, registers_of(load_target("x86-64-v4").features)])
def test_a_space_has_other_tiles_and_blocks_than_the_default_each_once(
    rows: int, keys: int, registers: Registers
) -> None:
    found = as_attention(attention(1, 2, rows, 72, keys, False))
    assert found is not None
    usual = layout_of(found, registers)
    space = streamed_space(found, registers)
    layouts = [layout_of(found, registers, each) for each in space]
    assert len({usual, *layouts}) == len(space) + 1 > 20
    assert {each.rows * each.keys.vectors for each in layouts} <= set(range(1, registers.count * 3 // 2 + 1))
    assert len({each.blocks for each in layouts}) > (keys > 64) and len({each.group for each in layouts}) > 2
    assert all(each.keys.extent * 144 * 4 <= TRIED_BYTES for each in layouts if each.blocks != usual.blocks)
    assert all(each.keys.extent >= TRIED_BLOCK for each in layouts)


def test_scores_exist_for_one_block_of_a_few_rows() -> None:
    text = str(kernel(attention(1, 1, 64, 8, 4096, False)))
    sizes = [int(size) for size in re.findall(r"alloc_buffer\(\(T.int64\((\d+)\),\)", text)]
    assert GROUP_ROWS * BLOCK <= max(sizes) < 1.1 * GROUP_ROWS * BLOCK


@pytest.mark.parametrize(
    ("extent", "most", "lanes", "tiles", "vectors"),
    [(256, 3, 8, 11, 3), (300, 3, 8, 13, 3), (72, 3, 8, 3, 3), (256, 6, 16, 4, 4), (72, 6, 16, 1, 5), (1, 3, 8, 1, 1)],
)
def test_tiles_are_as_wide_as_pays(extent: int, most: int, lanes: int, tiles: int, vectors: int) -> None:
    span = span_of(extent, most, lanes)
    assert (span.tiles, span.vectors) == (tiles, vectors) and span.padded >= extent


def test_few_heads_are_cut_into_more_tasks() -> None:
    def rows_of_a_task(heads: int) -> int:
        found = as_attention(attention(1, heads, 1024, 24, 300, False))
        assert found is not None
        return layout_of(found, PLAIN).task

    assert rows_of_a_task(16) == 256 and rows_of_a_task(1) == 64


@pytest.mark.parametrize(("rows", "keys", "streaming"), [(64, 300, True), (64, 16, False), (4, 300, False)])
def test_small_attention_is_not_packed(rows: int, keys: int, streaming: bool) -> None:
    function = float_kernel("a", attention(1, 2, rows, 24, keys, False), PLAIN)
    assert ("T.sblock" in str(function)) is not streaming


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4", "armv8-a"])
def test_sums_of_a_tile_stay_in_registers(target: str) -> None:
    """A loop that is mostly multiplications, as only those of the products are, stores nothing."""
    spec = load_target(target)
    function = kernel(attention(1, 2, 256, 72, 300, False), registers=registers_of(spec.features))
    assembly = tvm.tirx.build(tvm.IRModule({"a": function}), target=spec.tvm()).inspect_source("s")
    multiply = r"^\s+fmla\s" if "arm" in target else r"^\s+vfmadd231ps\s"
    store = r"^\s+(str|stp)\s" if "arm" in target else r"^\s+vmov\w+\s+%[xyz]mm\d+, .*\("
    loops = re.split(r"^\.L\w+:", assembly, flags=re.MULTILINE)
    inner = [re.split(r"^\s+(?:jne|b\.ne)\s", loop, flags=re.MULTILINE)[0] for loop in loops]
    products = [loop for loop in inner if len(re.findall(multiply, loop, re.MULTILINE)) > loop.count("\n") / 2]
    assert len(products) >= 2 and not any(re.search(store, loop, re.MULTILINE) for loop in products)


def test_layout_of_several_blocks_is_even() -> None:
    found = as_attention(attention(1, 1, 256, 72, 1024, False))
    assert found is not None
    layout: Layout = layout_of(found, Registers(16, 8))
    assert (layout.blocks, layout.keys.extent, layout.rows, layout.group) == (4, 256, 4, GROUP_ROWS)
