"""The model of a core: what it counts, and what it makes of that."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.execution import HOST

from tvm_flow.backends.cpu.arm import SDOT
from tvm_flow.backends.cpu.choices import ProductChoice
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.bench.ranking import ranking
from tvm_flow.check.calls import ExactnessReport, check_call
from tvm_flow.check.kernels import assembly
from tvm_flow.errors import BuildError
from tvm_flow.tune.cache_lines import bytes_missed
from tvm_flow.tune.counted import blocks_of, count_blocks, with_counters
from tvm_flow.tune.entries import DEFAULT, Kind
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.modelled import CoreModel, busiest_share, rank_correlation
from tvm_flow.tune.modelled_candidates import modelled_entries, reference
from tvm_flow.tune.workloads import scheduled

MCA = pytest.mark.skipif(not shutil.which("llvm-mca"), reason="llvm-mca is not installed")
MULTIPLY = re.compile(r"^(vpmaddwd|pmaddwd|vpdpbusd|sdot|smmla)\b")

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


def test_blocks_end_at_branches_and_labels_and_know_loops() -> None:
    blocks = [block for _, block in blocks_of(ARM)]
    assert [(block.labels, len(block.lines), block.loops) for block in blocks] == [
        ((".LBB0_1",), 1, False),
        ((".LBB0_2",), 3, True),
        ((), 2, False),
        ((".LBB0_3",), 2, True),
    ]
    assert not any("inner" in line for block in blocks for line in block.lines)


def test_a_counter_stands_before_the_first_instruction_of_each_block() -> None:
    text = with_counters(X86, blocks_of(X86), "x86_64").splitlines()
    (first,) = (number for number, line in enumerate(text) if "vpmaddwd (%rax)" in line)
    assert text[first - 1].split() == ["leaq", "128(%rsp),", "%rsp"]
    assert sum("flow_counts" in line for line in text) == 3  # a load, a store and the counter itself
    with pytest.raises(BuildError, match="riscv64"):
        with_counters(X86, blocks_of(X86), "riscv64")


@pytest.mark.parametrize(
    ("other", "expected"),
    [({"a": 10, "b": 20, "c": 30}, 1.0), ({"a": 3, "b": 2, "c": 1}, -1.0), ({"a": 1, "b": 1, "c": 1}, 0.0), ({}, 0.0)],
)
def test_the_correlation_of_ranks(other: dict[str, float], expected: float) -> None:
    assert rank_correlation({"a": 1, "b": 2, "c": 3}, other) == pytest.approx(expected)


def test_what_is_counted_computes_what_the_kernel_does(product: TunedKernel, tmp_path: Path) -> None:
    function = scheduled(product.packed, product.kernel, DEFAULT).with_attr("global_symbol", "k")
    args = product.arguments(0)
    ran, output = count_blocks(assembly("k", function, HOST), args, HOST, tmp_path)
    check_call(product.packed, product.call, (*args[:-1], output), "test", ExactnessReport())
    m, k, n, isa = (getattr(product.packed.products[product.kernel], name) for name in ("m", "k", "n", "isa"))
    multiplied = sum(count * sum(bool(MULTIPLY.match(line)) for line in block.lines) for block, count in ran)
    assert multiplied == m * k * n // (isa.lanes * isa.depth)


@MCA
def test_the_model_prefers_tiles_that_fill_the_registers(product: TunedKernel, tmp_path: Path) -> None:
    model, narrow = CoreModel(HOST, 1), next(each for each in product.task.space if '"rows":1' in each)
    right = reference(model, product, tmp_path)
    (entry,) = modelled_entries(model, product, [narrow], right, tmp_path)
    assert entry.kind is Kind.MODELLED and entry.exact
    assert entry.samples[0] > right.cycles == pytest.approx(entry.baseline[0], abs=0.1)


@MCA
def test_the_model_scores_an_attention_too(kernels: list[TunedKernel], tmp_path: Path) -> None:
    kernel = next(each for each in kernels if each.task.label.startswith("attention"))
    model, narrow = CoreModel(HOST, 1), next(each for each in kernel.task.space if '"rows":1' in each)
    default = reference(model, kernel, tmp_path)
    (entry,) = modelled_entries(model, kernel, [narrow], default, tmp_path)
    assert entry.kind is Kind.MODELLED and entry.exact and entry.samples[0] > default.cycles > 0


@MCA
def test_a_candidate_with_another_output_is_no_record(product: TunedKernel, tmp_path: Path) -> None:
    model = CoreModel(HOST, 1)
    default = reference(model, product, tmp_path)
    wrong = replace(default, right=replace(default.right, output=b""))
    (entry,) = modelled_entries(model, product, [product.task.space[0]], wrong, tmp_path)
    assert entry.kind is Kind.FAILED and "its output" in entry.cause


@MCA
def test_a_default_is_called_for_as_long_as_there_is_time(product: TunedKernel, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="expected an end within 1e-06 s"):
        reference(CoreModel(HOST, 1), product, tmp_path, 1e-6)


def test_loads_miss_when_what_is_read_between_does_not_fit() -> None:
    product, choice = Product(64, 128, 256, SDOT), ProductChoice(8, 2, 1, 1, False)
    weights, rows = 128 * 256, 64 * 128
    assert bytes_missed(product, choice, 1 << 20) == weights + rows
    assert bytes_missed(product, choice, 8192) == 4 * weights + rows
    assert bytes_missed(product, choice, 512) == 8 * weights + rows * (256 // SDOT.columns)


@pytest.mark.parametrize(("threads", "part"), [(1, 1.0), (3, 2 / 4), (4, 1 / 4), (64, 1 / 4)])
def test_the_busiest_thread_decides(threads: int, part: float) -> None:
    product, choice = Product(64, 128, SDOT.columns, SDOT), ProductChoice(8, 2, 1, 1, True)
    assert busiest_share(product, choice, threads) == part
    assert busiest_share(product, replace(choice, parallel=False), threads) == 1.0


def test_the_ranking_says_what_the_models_first_choice_costs() -> None:
    times, cycles = {DEFAULT: 1.0, "a": 0.9, "b": 0.8, "c": 2.0}, {DEFAULT: 100.0, "a": 80.0, "b": 90.0, "d": 1.0}
    found = ranking("kernel", times, cycles, [DEFAULT, "a"])
    assert found.alike == 2
    assert (found.ranked, found.correlation, found.same_rows) == (3, pytest.approx(0.5), pytest.approx(1.0))
    assert (found.regret, found.default_regret) == (pytest.approx(0.9 / 0.8), pytest.approx(1.0 / 0.8))
