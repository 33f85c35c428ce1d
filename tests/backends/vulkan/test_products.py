"""int8 products on the driver, by the instruction and without it, against exact integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.execution import compare
from support.vulkan_runner import LAVAPIPE, LEAST, run_shader
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.vulkan.product import TILES, VulkanProduct
from tvm_flow.backends.vulkan.shader import packed_product, shader
from tvm_flow.numerics.reference import execute
from tvm_flow.target.vulkan_device import VulkanDevice

Array = np.ndarray[Any, Any]
CUBE = [
    *((1, 1, 1), (1, 7, 13), (13, 7, 1152), (127, 13, 127), (7, 127, 13), (13, 1, 127), (1152, 13, 7)),
    *((1, 1152, 1152), (7, 1152, 13), (13, 1152, 127), (127, 1152, 7), (1152, 1152, 1), (1, 1152, 127)),
]
"""M, K, N of 1, 7, 13, 127 and 1152: K of whole words is tiled, the others are not."""


def operands(kind: str, m: int, k: int, n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(m * 1000 + k * 10 + n)
    if kind == "random":
        return rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(-128, 128, (k, n)).astype(np.int8)
    x, w = {"lowest": (-128, -128), "opposite": (-128, 127)}[kind]
    return np.full((m, k), x, np.int8), np.full((k, n), w, np.int8)


def function(m: int, k: int, n: int, epilogue: str = "") -> Any:
    """Sums, or what ``epilogue`` makes of them with a scale and a bias of each column."""
    block = relax.BlockBuilder()
    kinds = [((m, k), "int8"), ((k, n), "int8"), *([((n,), "float32")] * 2 if epilogue else [])]
    x, w, *vectors = params = [relax.Var(f"p{i}", relax.TensorType(s, d)) for i, (s, d) in enumerate(kinds)]
    with block.function("main", params):
        with block.dataflow():
            value = block.emit(R.matmul(x, w, out_dtype="int32"))
            if epilogue:
                scaled = block.emit(R.multiply(block.emit(R.astype(value, "float32")), vectors[0]))
                value = block.emit(R.add(scaled, vectors[1]))
            if epilogue == "codes":
                value = block.emit(R.astype(block.emit(R.clip(block.emit(R.round(value)), -128, 127)), "int8"))
            output = block.emit_output(value)
        block.emit_func_output(output)
    return block.get()["main"]


def check(kernel: Any, inputs: list[Array], device: VulkanDevice = LAVAPIPE) -> VulkanProduct | None:
    """Of the tiled form with and without the instruction, or of the plain one where it has none."""
    product = packed_product(kernel, (False, *[True] * (len(inputs) - 1)))
    spaces = ("arena", "weights", *["step"] * (len(inputs) - 2), "arena")
    made = shader("product", kernel, device, spaces, product)
    given = [inputs[0], inputs[1] if product is None else product.layout.pack(inputs[1]), *inputs[2:]]
    shape = tuple(int(extent) for extent in kernel.body.body.ty.shape)
    for form in (made, made.fallback) if made.fallback else (made,):
        compare(execute(kernel, inputs), run_shader(form, given, shape)[0])
    return product


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("m", "k", "n"), CUBE)
def test_exact_on_every_shape(m: int, k: int, n: int) -> None:
    assert (check(function(m, k, n), list(operands("random", m, k, n))) is None) == (k % 4 != 0)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("kind", ["lowest", "opposite"])
def test_extremes_do_not_saturate(kind: str) -> None:
    check(function(3, 1024, 36), list(operands(kind, 3, 1024, 36)))


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("epilogue", ["floats", "codes"])
@pytest.mark.parametrize(("m", "k", "n"), [(33, 52, 36), (5, 20, 7), (16, 64, 64), (6, 32, 64)])
def test_epilogues_on_ragged_tiles(m: int, k: int, n: int, epilogue: str) -> None:
    """Codes are stored by whole words, so a row that does not end with one is not tiled."""
    rng = np.random.default_rng(m)
    scale, bias = (rng.random(n) / k).astype(np.float32), rng.standard_normal(n).astype(np.float32)
    product = check(function(m, k, n, epilogue), [*operands("random", m, k, n), scale, bias])
    assert (product is None) == (epilogue == "codes" and n % 4 != 0)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("tile", sorted(set(TILES.values())))
def test_every_vendors_tile(tile: tuple[int, int, int]) -> None:
    """On a device of that vendor with the least of everything, so that a tile fits any of its devices."""
    vendor = next(name for name, other in TILES.items() if other == tile)
    device = VulkanDevice(vendor=vendor)  # type: ignore[arg-type]
    assert check(function(70, 200, 68, "codes"), [*operands("random", 70, 200, 68), *vectors(68, 200)], device)


def vectors(n: int, k: int) -> list[Array]:
    rng = np.random.default_rng(n)
    return [(rng.random(n) / k).astype(np.float32), rng.standard_normal(n).astype(np.float32)]


def test_the_instruction_is_used_where_the_target_has_it() -> None:
    kernel = function(8, 16, 8)
    product = packed_product(kernel, (False, True))
    with_dot = shader("product", kernel, LAVAPIPE, product=product)
    assert "DotProduct" in with_dot.capabilities
    assert with_dot.fallback is not None and "DotProduct" not in with_dot.fallback.capabilities
    assert with_dot.fallback.arguments == with_dot.arguments and with_dot.fallback.grid == with_dot.grid
    without = shader("product", kernel, LEAST, product=product)
    assert without.fallback is None and set(without.capabilities) == {"Shader"}


def test_weights_that_change_are_not_packed() -> None:
    assert packed_product(function(8, 16, 8), (False, False)) is None
