"""float32 products and convolutions by tiles, on the driver, within the bound of a sum in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.execution import compare
from support.relax_kernels import like
from support.vulkan_runner import LAVAPIPE, LEAST, run_shader
from tvm.relax import op as R

from tvm_flow.backends.vulkan.float_product import as_float_product
from tvm_flow.backends.vulkan.shader import shader
from tvm_flow.numerics.reference import execute
from tvm_flow.target.vulkan_device import VulkanDevice

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
PRODUCTS: list[tuple[Shape, Shape]] = [
    *(((1, 1), (1, 1)), ((7, 13), (13, 127)), ((33, 70), (70, 65)), ((2, 3, 5, 9), (9, 10)), ((3, 9, 20), (3, 20, 34))),
    ((4, 40), (1, 40, 6)),
]
IMAGES: list[tuple[Shape, Shape]] = [
    *(((2, 3, 7, 9), (5, 3, 3, 3)), ((1, 8, 10, 10), (66, 8, 3, 3)), ((2, 6, 4, 5), (3, 6, 1, 1))),
    ((1, 2, 6, 8), (2, 2, 2, 5)),
]
"""Padded images and weights: kernels that are no squares, places and channels that end within a tile."""


def multiply(emit: Any, a: Any, b: Any) -> Any:
    return emit(R.matmul(a, b))


def convolve(emit: Any, x: Any, w: Any) -> Any:
    return emit(R.nn.conv2d(x, w))


def operands(*shapes: Shape) -> list[Array]:
    rng = np.random.default_rng(sum(map(sum, shapes)))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def check(build: Any, inputs: list[Array], kind: str, device: VulkanDevice = LAVAPIPE) -> None:
    kernel = like(build, *inputs)
    made = shader("product", kernel, device)
    assert made.schedule == kind
    expected: Any = execute(kernel, inputs)
    compare(expected, run_shader(made, inputs, expected.value.shape)[0])


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_products_of_every_shape(shapes: tuple[Shape, Shape]) -> None:
    check(multiply, operands(*shapes), "float product")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("shapes", IMAGES, ids=str)
def test_convolutions_of_every_shape(shapes: tuple[Shape, Shape]) -> None:
    check(convolve, operands(*shapes), "convolution")


@pytest.mark.usefixtures("driver")
def test_tiles_of_the_least_device() -> None:
    check(multiply, operands((20, 33), (33, 70)), "float product", LEAST)


@pytest.mark.usefixtures("driver")
def test_what_lies_past_the_end_of_a_sum_is_not_read_into_it() -> None:
    """Infinities stand where a whole step of K would go on: in the next row, and in the next row's column."""
    x, w = operands((3, 5), (5, 3))
    x[1], w[:, 2] = np.inf, 1.0
    check(multiply, [np.abs(x), np.abs(w)], "float product")


@pytest.mark.usefixtures("driver")
def test_the_same_tensor_twice() -> None:
    check(lambda emit, a: emit(R.matmul(a, a)), operands((12, 12)), "float product")


def test_matrices_that_are_not_one_to_one_are_left() -> None:
    kernel = like(multiply, *operands((2, 3, 4, 5), (1, 3, 5, 6)))
    assert as_float_product(kernel, LAVAPIPE) is None
    assert as_float_product(like(multiply, *operands((4, 5), (5,))), LAVAPIPE) is None
