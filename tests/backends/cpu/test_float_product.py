"""Packed float products: every shape within its bound, here and on NEON, in tiles that fit the registers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.execution import HOST, call_kernel, compare, compile_functions
from support.relax_kernels import function_of, program_of
from tvm.relax import op as R

from tvm_flow.backends.cpu.candidates import float_space
from tvm_flow.backends.cpu.choices import FloatChoice, RowsChoice
from tvm_flow.backends.cpu.codegen import scheduled_kernels
from tvm_flow.backends.cpu.float_product import FloatProduct, as_float_product, float_product, noted_float_product
from tvm_flow.backends.cpu.registers import PLAIN, Registers, registers_of
from tvm_flow.backends.cpu.spaces import space, with_choices
from tvm_flow.backends.place import place
from tvm_flow.check.kernels import assembly, link_kernel, run_kernel
from tvm_flow.check.machines import machine_of
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import evaluate
from tvm_flow.numerics.reference import execute
from tvm_flow.target.spec import TargetSpec, load_target

Array = np.ndarray[Any, Any]
SHAPES = [
    *(((1, 5), (5, 8)), ((7, 3), (3, 24)), ((13, 1), (1, 4)), ((8, 96), (96, 32)), ((24, 64), (64, 72))),
    *(((2, 6, 20), (20, 48)), ((1, 1, 9), (9, 16)), ((3, 2, 2, 10), (10, 12)), ((128, 128), (128, 96))),
]
"""One row, prime numbers of rows and columns of half a vector, batches, and enough for threads."""
LEFT_ALONE = [((5, 7), (7, 3)), ((7,), (7, 16)), ((2, 5, 7), (2, 7, 16)), ((4, 6), (6,))]
TARGETS = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "raspberry-pi-4"]


def matmul(left: tuple[int, ...], right: tuple[int, ...]) -> Any:
    return function_of(lambda emit, x, w: emit(R.matmul(x, w)), (left, "float32"), (right, "float32"))


def product_of(left: tuple[int, ...], right: tuple[int, ...], registers: Registers) -> FloatProduct:
    product = as_float_product(matmul(left, right), registers)
    assert product is not None
    return product


def operands(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[Array, Array]:
    rng = np.random.default_rng(sum(left))
    return rng.standard_normal(left).astype(np.float32), rng.standard_normal(right).astype(np.float32)


@pytest.mark.parametrize("registers", [registers_of(HOST.features), PLAIN], ids=["host", "plain"])
def test_is_within_the_bound_on_every_shape(registers: Registers) -> None:
    products = {f"p{i}": product_of(*shape, registers) for i, shape in enumerate(SHAPES)}
    module = compile_functions({name: float_product(name, product) for name, product in products.items()})
    for (name, product), shape in zip(products.items(), SHAPES, strict=True):
        x, w = operands(*shape)
        got = call_kernel(module, name, [x, product.layout.pack(w)], (*product.batch, product.n), "float32")
        compare(execute(matmul(*shape), [x, w]), got, name)


def test_neon_is_within_the_bound(tmp_path: Path) -> None:
    target = load_target("raspberry-pi-4")
    shape = ((12, 40), (40, 96))
    product, (x, w) = product_of(*shape, registers_of(target.features)), operands(*shape)
    command = link_kernel("p", float_product("p", product), target, tmp_path, machine_of(target).command)
    got = run_kernel(command, (x, product.layout.pack(w), np.zeros((12, 96), np.float32)))
    compare(execute(matmul(*shape), [x, w]), got)


@pytest.mark.parametrize("shapes", LEFT_ALONE)
def test_others_are_left_to_the_rows(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    assert as_float_product(matmul(*shapes), registers_of(HOST.features)) is None


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("m", "n"), [(120, 1152), (4096, 1152), (4096, 32), (7, 8)])
def test_a_tile_fits_the_registers_and_divides_the_product(name: str, m: int, n: int) -> None:
    registers = registers_of(load_target(name).features)
    product = product_of((m, 64), (64, n), registers)
    assert product.m % product.rows == 0 and product.n % product.columns == 0
    assert product.rows * product.vectors + product.vectors + 1 <= registers.count


def test_sums_of_few_products_are_written_by_few_tiles_at_a_time() -> None:
    """Their time is that of their stores: lines of the output stay in the first cache until they are whole."""
    tiles = [product_of((4096, k), (k, 1152), Registers(16, 8)).default.tiles for k in (8, 16, 17, 1152)]
    assert tiles == [4, 4, 16, 16]


@pytest.mark.parametrize(("name", "add"), [("x86-64-v3", "vfmadd"), ("x86-64-v4", "zmm"), ("raspberry-pi-4", "fmla")])
def test_sums_stay_in_registers(name: str, add: str) -> None:
    """One instruction for each of them: none is taken apart."""
    target = load_target(name)
    product = product_of((120, 256), (256, 96), registers_of(target.features))
    text = assembly("p", float_product("p", product), target)
    assert text.count(add) >= product.rows * product.vectors


def placed(target: TargetSpec, constant: bool) -> Any:
    x, w = operands((12, 40), (40, 96))
    return place(program_of(matmul(x.shape, w.shape), {1: w} if constant else {}), target), w


def test_a_constant_matrix_is_packed_and_its_meaning_stays() -> None:
    packed, w = placed(HOST, constant=True)
    product = noted_float_product(packed, "k")
    assert product is not None and not packed.products
    (call,) = packed.program.calls
    stored = evaluate(packed.constants[call.args[1]], packed.program.graph.given)
    assert stored.shape == packed.program.tensors[call.args[1]].shape == product.layout.shape(w.shape)
    np.testing.assert_array_equal(packed.plain_inputs("k", [np.zeros(1), stored])[1], w)
    assert "T.unroll" in str(scheduled_kernels(packed)["k"])


def test_a_matrix_that_is_computed_is_not() -> None:
    packed, _ = placed(HOST, constant=False)
    assert noted_float_product(packed, "k") is None and packed.program.calls[0].args == ("p0", "p1")


@pytest.mark.parametrize("shape", [((64, 40), (40, 96)), ((2, 12, 33), (33, 144))])
def test_every_choice_gives_the_default_s_bits_from_other_code(shape: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """The weights are those that were packed for the default."""
    product = product_of(*shape, registers_of(HOST.features))
    found = float_space(product.m, product.batch[-1], product.n // product.lanes, product.default)
    assert product.default not in found and len(set(found)) == len(found) > 5
    chosen = [product.default, *found[:: len(found) // 5]]
    functions = {f"p{i}": float_product(f"p{i}", product, each) for i, each in enumerate(chosen)}
    assert len({str(each).split("\n", 6)[-1] for each in functions.values()}) == len(chosen)
    module, (x, w) = compile_functions(functions), operands(*shape)
    inputs, out = [x, product.layout.pack(w)], (*product.batch, product.n)
    default, *others = (call_kernel(module, name, inputs, out, "float32") for name in functions)
    compare(execute(matmul(*shape), [x, w]), default)
    for choice, got in zip(chosen[1:], others, strict=True):
        assert np.array_equal(got, default), choice


@pytest.mark.parametrize("name", TARGETS)
def test_tiles_that_are_tried_spill_little_and_read_the_weights_as_they_are_packed(name: str) -> None:
    registers = registers_of(load_target(name).features)
    for m, n in ((120, 1152), (1, 768), (7, 40)):
        product = product_of((m, 64), (64, n), registers)
        found = float_space(m, m, n // product.lanes, product.default)
        assert all(each.rows * each.vectors <= product.rows * product.vectors * 3 / 2 for each in found)
        float_product("p", product, found[-1])


@pytest.mark.parametrize(
    "choice", [FloatChoice(5, 3, 1, False), FloatChoice(4, 5, 1, False), FloatChoice(4, 3, 7, False)]
)
def test_a_choice_of_another_product_is_refused(choice: FloatChoice) -> None:
    product = product_of((64, 40), (40, 96), Registers(16, 8))
    with pytest.raises(BuildError, match="tune again"):
        float_product("p", product, choice)


def test_a_packed_product_has_a_space_where_it_is_large_enough_and_is_scheduled_by_its_choice() -> None:
    packed, _ = placed(HOST, constant=True)
    found = space(packed, "k")
    assert found and all(isinstance(each, FloatChoice) for each in found)
    assert str(scheduled_kernels(with_choices(packed, {"k": found[-1]}))["k"]) != str(scheduled_kernels(packed)["k"])
    with pytest.raises(BuildError, match="a choice of its kind"):
        with_choices(packed, {"k": RowsChoice(8, False)})
    x, w = operands((2, 8), (8, 16))
    assert space(place(program_of(matmul(x.shape, w.shape), {1: w}), HOST), "k") == []
