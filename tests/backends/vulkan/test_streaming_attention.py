"""Attention in one pass over the keys, on the driver: within the bounds of whole rows, and where it is not taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.execution import compare
from support.relax_kernels import attention, like
from support.vulkan_runner import LAVAPIPE, LEAST, run_shader

from tvm_flow.backends.vulkan.attention import Attention, as_streaming
from tvm_flow.backends.vulkan.shader import shader
from tvm_flow.numerics.reference import execute
from tvm_flow.target.vulkan_device import VulkanDevice

Array = np.ndarray[Any, Any]
SHAPES = [
    *(((1, 1), 1, 8, 1), ((2, 2), 8, 16, 12), ((1, 1), 5, 7, 11), ((1, 3), 12, 1, 70), ((1, 2), 33, 72, 250)),
    ((2,), 40, 33, 64),
]
"""Batch, M, D, S: one row and key, primes, one channel; one tile of keys, ragged ones, whole ones."""


def operands(batch: tuple[int, ...], m: int, d: int, s: int) -> list[Array]:
    rng = np.random.default_rng(m * 1000 + d * 10 + s)
    shapes = ((*batch, m, d), (*batch, d, s), (*batch, s, d))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def check(inputs: list[Array], device: VulkanDevice = LAVAPIPE, kind: str = "streaming attention") -> Array:
    kernel = like(attention, *inputs)
    made = shader("attention", kernel, device)
    assert made.schedule == kind and made.shared_bytes <= device.shared_bytes
    expected: Any = execute(kernel, inputs)
    got, _ = run_shader(made, inputs, expected.value.shape)
    compare(expected, got)
    return got


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_within_the_bounds_of_whole_rows(shape: tuple[tuple[int, ...], int, int, int]) -> None:
    check(operands(*shape))


@pytest.mark.usefixtures("driver")
def test_tiles_of_the_least_device() -> None:
    check(operands((1, 2), 33, 72, 100), LEAST)


@pytest.mark.usefixtures("driver")
def test_a_mask_of_one_axis_and_one_of_heads() -> None:
    inputs = operands((2, 3), 9, 8, 40)
    rows = np.where(np.arange(40) <= 17, 0.0, -1e9).astype(np.float32)
    heads = np.random.default_rng(0).standard_normal((2, 1, 9, 1)).astype(np.float32)
    check([*inputs, rows, heads])


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("rises", [1, -1])
def test_a_maximum_that_rises_with_every_tile(rises: int) -> None:
    """All that was added up is scaled by each of 12 tiles; or by none, and nearly all weighs nothing."""
    q, k, v = operands((1,), 5, 3, 384)
    k[:, :, :] = np.linspace(0, rises * 20, 384, dtype=np.float32)
    check([np.abs(q), k, v + np.float32(3)])


@pytest.mark.usefixtures("driver")
def test_infinities_and_what_is_not_a_number_stay_in_their_rows() -> None:
    """A tile that is masked altogether comes first; a row all masked is no number, as the reference has it."""
    q, k, v = operands((1,), 4, 8, 70)
    mask = np.zeros((4, 70), np.float32)
    mask[0, :40], mask[1, 60:], mask[2], mask[3, 5] = -np.inf, -np.inf, -np.inf, np.inf
    result = check([q, k, v, mask])
    assert np.isfinite(result[0, :2]).all() and np.isnan(result[0, 2:]).all()


@pytest.mark.usefixtures("driver")
def test_what_stands_in_masked_values_weighs_nothing() -> None:
    q, k, v = operands((1, 2), 4, 8, 36)
    mask = np.where(np.arange(36) < 20, 0.0, -1e9).astype(np.float32)
    results = []
    for padding in (1.0, 1e30):
        v[:, :, 20:] = padding
        results.append(check([q, k, v, mask]))
    assert (results[0] == results[1]).all()


@pytest.mark.usefixtures("driver")
def test_values_of_other_channels_have_whole_rows() -> None:
    q, k, v = operands((2,), 5, 8, 12)
    check([q, k, np.ascontiguousarray(v[:, :, :6])], kind="attention")


def streaming(shape: tuple[tuple[int, ...], int, int, int], device: VulkanDevice) -> Attention | None:
    return as_streaming(like(attention, *operands(*shape)), device)


def test_tiles_shrink_to_the_memory_that_is_shared() -> None:
    wide, least = (streaming(((1,), 64, 72, 256), device) for device in (LAVAPIPE, LEAST))
    assert wide is not None and least is not None
    assert wide.tile == (4, 4) and least.tile == (1, 4)
    assert streaming(((1,), 64, 600, 256), LEAST) is None


def test_tiles_too_small_for_the_bound_are_not_taken() -> None:
    """With 16 keys in a tile and 18 keys, scaling once costs more than their sum in whatever order may."""
    found = [streaming(((1,), 1, 150, keys), LEAST) for keys in (16, 20, 21, 300)]
    assert [None if each is None else each.tile for each in found] == [(1, 2), None, (1, 2), (1, 2)]
