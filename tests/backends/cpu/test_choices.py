"""Every candidate of a space gives the default's bits from other code; no choice at all gives the default's code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.execution import HOST, call_kernel, compile_functions
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu.candidates import product_space
from tvm_flow.backends.cpu.choices import (
    AttentionChoice,
    Choice,
    FloatChoice,
    ProductChoice,
    RowsChoice,
    choice_from_json,
    choice_to_json,
    product_default,
)
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.backends.cpu.isa import Isa, registered_isas
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.cpu.row_candidates import row_choices
from tvm_flow.backends.cpu.rows import schedule_rows
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import RULES
from tvm_flow.lower.legalize import to_prim_func

M, K, N = 48, 64, 192
RUNNABLE = [isa for isa in registered_isas() if isa.features <= HOST.features]
CHOICES = [
    ProductChoice(4, 8, 2, 1, True),
    ProductChoice(4, 8, 2, 1, True, 16),
    AttentionChoice(2, 32, False),
    AttentionChoice(2, 32, False, 4, 8),
    RowsChoice(16, True),
    FloatChoice(4, 3, 8, True),
]


def relax_function(body: Any, shapes: dict[str, tuple[int, ...]]) -> Any:
    p = {name: relax.Var(name, relax.TensorType(list(shape), "float32")) for name, shape in shapes.items()}
    block = relax.BlockBuilder()
    with block.function("main", list(p.values())):
        with block.dataflow():
            output = block.emit_output(body(block.emit, *p.values()))
        block.emit_func_output(output)
    return block.get()["main"]


def attention(emit: Any, q: Any, k: Any, v: Any) -> Any:
    scores = emit(R.matmul(q, k))
    power = emit(R.exp(emit(R.subtract(scores, emit(R.max(scores, axis=[-1], keepdims=True))))))
    return R.matmul(emit(R.divide(power, emit(R.sum(power, axis=[-1], keepdims=True)))), v)


def norm(emit: Any, x: Any) -> Any:
    mean = emit(R.mean(x, axis=[-1], keepdims=True))
    return R.multiply(emit(R.subtract(x, mean)), x)


KERNELS: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
    "attention": (attention, {"q": (2, 24, 32), "k": (2, 32, 48), "v": (2, 48, 32)}),
    "norm": (norm, {"x": (32, 96)}),
    "norm of two axes of rows": (norm, {"x": (4, 8, 40)}),
    "short rows": (norm, {"x": (32, 33)}),
    "elementwise": (lambda _, x: R.multiply(x, x), {"x": (32, 96)}),
    "product": (lambda _, x, y: R.matmul(x, y), {"x": (32, 24), "y": (24, 96)}),
}


@pytest.mark.parametrize("isa", RUNNABLE, ids=lambda isa: isa.name)
def test_every_tiling_of_a_product_gives_the_same_bits(isa: Isa) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (M, K)).astype(np.int8), rng.integers(-128, 128, (K, N)).astype(np.int8)
    space = product_space(Product(M, K, N, isa), False)[::12]
    functions = {f"c{i}": gemm(f"c{i}", M, K, N, isa, choice) for i, choice in enumerate(space)}
    assert len({str(f).split("\n", 6)[-1] for f in functions.values()}) == len(space), "all different"
    module, packed = compile_functions(functions), RULES["pack_columns"](w, isa.columns, isa.depth)
    for name, choice in zip(functions, space, strict=True):
        got = call_kernel(module, name, [x, packed], (M, N), "int32")
        assert np.array_equal(got, x.astype(np.int64) @ w.astype(np.int64)), choice


@pytest.mark.parametrize("isa", registered_isas(), ids=lambda isa: isa.name)
def test_the_default_written_as_a_choice_is_the_default(isa: Isa) -> None:
    product = Product(M, K, N, isa)
    for parallel in (False, True):
        default = product_default(product, parallel)
        assert default not in product_space(product, parallel)
    m = 1 << 14 if isa.columns == 32 else 1 << 15
    for size, parallel in (((M, K, N), False), ((m, K, isa.columns), True)):
        default = product_default(Product(*size, isa), parallel)
        assert str(gemm("g", *size, isa, default)) == str(gemm("g", *size, isa))


def test_lanes_are_chosen_where_something_follows_the_product() -> None:
    product = Product(M, K, N, RUNNABLE[0])
    assert {each.lanes for each in product_space(product, False)} == {0}
    lanes = {each.lanes for each in product_space(replace(product, epilogue=True), False)}
    assert len(lanes) > 1 and all(RUNNABLE[0].columns % each == 0 for each in lanes if each)
    with pytest.raises(BuildError, match="tune again"):
        gemm("g", M, K, N, RUNNABLE[0], ProductChoice(4, 1, 1, 1, False, 7))


def test_a_candidate_of_before_there_were_lanes_is_the_same_candidate() -> None:
    known = {"kind": "product", "rows": 4, "tiles": 8, "blocks": 2, "parts": 1, "parallel": True}
    assert choice_to_json(choice_from_json(known)) == known


@pytest.mark.parametrize("isa", registered_isas(), ids=lambda isa: isa.name)
def test_a_space_offers_only_what_can_be_scheduled(isa: Isa) -> None:
    """On instruction sets that this machine lacks, too."""
    for m in (M, 30):
        space = product_space(Product(m, K, isa.columns * 6, isa), False)
        assert len(set(space)) == len(space)
        for choice in (space[0], space[-1]):
            gemm("g", m, K, isa.columns * 6, isa, choice)


def test_a_product_whose_columns_are_not_whole_blocks_has_no_space() -> None:
    assert product_space(Product(M, K, 7, RUNNABLE[0]), False) == []


@pytest.mark.parametrize("kind", KERNELS)
def test_every_other_candidate_gives_the_default_s_bits(kind: str) -> None:
    relaxed = relax_function(*KERNELS[kind])
    function = to_prim_func(relaxed, "k")
    shapes = KERNELS[kind][1]
    rng = np.random.default_rng(2)
    inputs = [np.asarray(rng.standard_normal(shape), np.float32) for shape in shapes.values()]
    space = row_choices(function)
    usual = next((each.lanes for each in space if isinstance(each, RowsChoice) and each.rows), 0)
    choices: list[Choice | None] = [None, *(each for each in space if _differs_once(each, usual))]
    assert len(choices) > 3
    functions = {f"c{i}": schedule_rows(function, c).with_attr("global_symbol", f"c{i}") for i, c in enumerate(choices)}
    module = compile_functions(functions)
    shape = tuple(int(extent) for extent in relaxed.ret_ty.shape)
    default, *others = (call_kernel(module, name, inputs, shape, "float32") for name in functions)
    for choice, got in zip(choices[1:], others, strict=True):
        assert np.array_equal(default, got), choice


def _differs_once(choice: Choice, usual: int) -> bool:
    """Rows are tried with the ``usual`` lanes, and lanes without rows."""
    return not isinstance(choice, RowsChoice) or choice.rows == 0 or choice.lanes == usual


def test_a_choice_of_another_kind_is_refused() -> None:
    rows = to_prim_func(relax_function(*KERNELS["norm"]), "k")
    with pytest.raises(BuildError, match="tune again"):
        schedule_rows(rows, AttentionChoice(2, 32, False))
    with pytest.raises(BuildError, match="tune again"):
        schedule_rows(to_prim_func(relax_function(*KERNELS["attention"]), "k"), RowsChoice(8, False))
    with pytest.raises(BuildError, match="tune again"):
        schedule_rows(to_prim_func(relax_function(*KERNELS["attention"]), "k"), AttentionChoice(2, 32, False, 2))
    with pytest.raises(BuildError, match="tune again"):
        gemm("g", 30, K, N, RUNNABLE[0], ProductChoice(4, 1, 1, 1, False))


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_passes_through_json(choice: Choice) -> None:
    assert choice_from_json(choice_to_json(choice)) == choice


@pytest.mark.parametrize(
    "values",
    [
        {},
        [],
        {"kind": "rows"},
        {"kind": "rows", "lanes": 0, "parallel": True},
        {"kind": "rows", "lanes": True, "parallel": True},
        {"kind": "rows", "lanes": 8, "parallel": 1},
        {"kind": "rows", "lanes": 8, "parallel": True, "unroll": 2},
        {"kind": "other", "lanes": 8, "parallel": True},
    ],
)
def test_what_describes_no_choice_is_refused(values: object) -> None:
    with pytest.raises(BuildError, match="tune again"):
        choice_from_json(values)
