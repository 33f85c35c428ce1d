"""The model's order of candidates, on assembly and figures written by hand."""

from __future__ import annotations

import shutil

import pytest
from support.execution import HOST

from tvm_flow.tune.entries import DEFAULT
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.modelled import inner_loop, modelled_order, products_in, rank_correlation

ARM = """
.LBB0_1:
    mov x1, #0
.LBB0_2:                                // inner
    ldp q0, q1, [x11, #32]
    sdot v2.4s, v0.16b, v1.4b[0]
    b.ne .LBB0_2
    add x2, x2, #1
    cbnz x2, .LBB0_1
.LBB0_3:
    add w1, w1, #1
    b.lt .LBB0_3
"""
X86 = """
.LBB1_4:
    vpmaddwd (%rax), %ymm1, %ymm2   # a comment
    vpmaddwd 32(%rax), %ymm1, %ymm3
    cmpq $3, %rcx
    jne .LBB1_4
"""


def test_the_inner_loop_is_the_one_that_multiplies() -> None:
    assert inner_loop(ARM) == ["ldp q0, q1, [x11, #32]", "sdot v2.4s, v0.16b, v1.4b[0]", "b.ne .LBB0_2"]
    assert products_in(inner_loop(X86)) == 2
    assert not any("comment" in line for line in inner_loop(X86))
    assert inner_loop("ret") == []


@pytest.mark.parametrize(
    ("other", "expected"),
    [({"a": 10, "b": 20, "c": 30}, 1.0), ({"a": 3, "b": 2, "c": 1}, -1.0), ({"a": 1, "b": 1, "c": 1}, 0.0), ({}, 0.0)],
)
def test_the_correlation_of_ranks(other: dict[str, float], expected: float) -> None:
    assert rank_correlation({"a": 1, "b": 2, "c": 3}, other) == pytest.approx(expected)


@pytest.mark.skipif(not shutil.which("llvm-mca"), reason="llvm-mca is not installed")
def test_the_model_prefers_tiles_that_fill_the_registers(product: TunedKernel) -> None:
    narrow = next(each for each in product.task.space if '"rows":1' in each)
    order = [candidate for _, candidate in modelled_order(product, [narrow, DEFAULT], HOST)]
    assert order == [DEFAULT, narrow]
