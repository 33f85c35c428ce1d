"""Attention a few rows at a time, against the reference on awkward shapes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm
from support.attentions import attention, operands
from support.execution import allocated, call_kernel, compare, compile_functions

from tvm_flow.backends.cpu.attention import PARALLEL_PRODUCTS, ROWS, divided_last
from tvm_flow.backends.cpu.registers import PLAIN, Registers, registers_of
from tvm_flow.backends.cpu.rows import schedule_rows
from tvm_flow.graph.lifted import bindings_of, op_name
from tvm_flow.lower.legalize import to_prim_func
from tvm_flow.numerics.reference import execute
from tvm_flow.target.spec import load_target

SHAPES = [
    *((1, 1, 1, 4, 3), (2, 2, 8, 16, 12), (3, 2, 6, 16, 6), (1, 2, 7, 24, 30), (1, 1, 5, 7, 11), (2, 1, 1, 8, 1)),
    *((1, 3, 12, 1, 16), (2, 2, 9, 72, 20), (1, 1, 4, 2, 48)),
]
"""Batch, heads, M, D, S: single rows, primes, one key, one channel."""


def scheduled(function: Any, name: str, registers: Registers | None = None) -> Any:
    return schedule_rows(to_prim_func(divided_last(function), name), None, registers).with_attr("global_symbol", name)


@pytest.mark.parametrize("masked", [False, True])
def test_every_shape_within_the_references_bounds(masked: bool) -> None:
    cases = {f"a_{'_'.join(map(str, shape))}": attention(*shape, masked) for shape in SHAPES}
    module = compile_functions({name: scheduled(function, name) for name, function in cases.items()})
    for name, function in cases.items():
        inputs = operands(function)
        expected: Any = execute(function, inputs)
        got = call_kernel(module, name, inputs, expected.value.shape, "float32")
        compare(expected, got, name)


def test_padding_weighs_nothing_at_all() -> None:
    """Whatever stands in the values of masked tokens."""
    function = attention(1, 2, 4, 8, 6, True)
    module = compile_functions({"a": scheduled(function, "a")})
    inputs = operands(function)
    results = []
    for padding in (1.0, 1e30):
        inputs[2][:, :, 4:] = padding
        results.append(call_kernel(module, "a", inputs, (1, 2, 4, 8), "float32"))
    assert np.array_equal(*results)


def test_scores_exist_for_a_few_rows_at_a_time() -> None:
    m, s = 64, 48
    sizes = [elements for elements, _ in allocated(scheduled(attention(2, 2, m, 16, s, True), "a"))]
    assert max(sizes) == ROWS * s


def test_large_ones_run_in_parallel() -> None:
    small, large = attention(1, 1, 8, 8, 8, False), attention(2, 4, 64, 32, 64, False)
    assert 2 * 4 * 64 * 32 * 64 >= PARALLEL_PRODUCTS > 8 * 8 * 8
    assert "T.parallel" in str(scheduled(large, "a")) and "T.parallel" not in str(scheduled(small, "a"))


def last_operator(function: Any) -> str:
    return op_name(dict(bindings_of(function))[function.body.body])


def test_the_sum_divides_last_where_a_row_has_more_keys_than_channels() -> None:
    long, short = attention(1, 2, 8, 16, 48, True), attention(1, 2, 8, 16, 16, True)
    assert last_operator(divided_last(long)) == "relax.divide" and divided_last(short) is short


def test_dividing_last_stays_within_the_bound_of_dividing_first() -> None:
    """Also where one weight is nearly all, and where values cancel."""
    function = attention(1, 2, 12, 8, 96, False)
    module = compile_functions({"a": scheduled(function, "a")})
    for scale in (0.01, 1.0, 30.0):
        q, k, v = operands(function)
        v[..., ::2, :] = -v[..., 1::2, :]
        inputs = [q * np.float32(scale), k, v]
        expected: Any = execute(function, inputs)
        compare(expected, call_kernel(module, "a", inputs, expected.value.shape, "float32"), f"scale {scale}")


@pytest.mark.parametrize(
    ("features", "registers"),
    [
        ({"sse2", "avx", "avx2"}, Registers(16, 8)),
        ({"avx", "avx2", "avx512f", "avx512vl"}, Registers(32, 16)),
        ({"neon", "dotprod"}, Registers(32, 4)),
        (set(), PLAIN),
    ],
)
def test_a_tile_fits_the_registers_of_its_target(features: set[str], registers: Registers) -> None:
    found = registers_of(frozenset(features))
    assert found == registers
    assert (ROWS + 1) * found.columns(ROWS) + 1 <= found.count


def test_sums_of_scores_are_not_spilled_on_16_registers() -> None:
    """32 columns of 4 rows were 16 registers of sums: one of AVX2's for each, and none for what they are made of."""
    target = load_target("x86-64-v3")
    function = scheduled(attention(1, 2, 64, 72, 256, False), "a", registers_of(target.features))
    assembly = tvm.tirx.build(tvm.IRModule({"a": function}), target=target.tvm()).inspect_source("s")
    loops = re.split(r"^\.L\w+:", assembly, flags=re.MULTILINE)
    inner = [loop for loop in loops if loop.count("vfmadd231ps") >= 8]
    assert inner and not any(re.search(r"vmov[ua]ps\s+%ymm\d+, -?\d*\(%rsp\)", loop.split("jne")[0]) for loop in inner)
