"""Division and square root are correctly rounded whatever the device's own are worth within Vulkan's limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.vulkan_runner import LAVAPIPE, run_shader
from tvm import te, tirx

from tvm_flow.backends.vulkan.shader import Shader, shader_of_tir
from tvm_flow.toolchain.spirv import assemble

Array = np.ndarray[Any, Any]
SPECIAL = np.array(
    [
        *(0x0, 0x1, 0x2, 0x3, 0x7FFFFF, 0x800000, 0x800001, 0x1000000, 0x33800000, 0x3F7FFFFF, 0x3F800000, 0x3F800001),
        *(0x40490FDB, 0x4B7FFFFF, 0x4B800000, 0x7E800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x00400000, 0x3EAAAAAB),
    ],
    np.uint32,
)
"""Bits of zero, subnormals, the least and the greatest normal number, halfway cases, infinity and NaN."""
COUNT = 1 << 16


def floats(seed: int) -> Array:
    """Random bits: every exponent, subnormals and NaN among them."""
    return np.random.default_rng(seed).integers(0, 2**32, COUNT, np.uint32).view(np.float32)


def special() -> Array:
    both = np.concatenate([SPECIAL, SPECIAL | 0x80000000]).astype(np.uint32)
    return both.view(np.float32)


def function(body: Any, length: int) -> Any:
    a, b = (te.placeholder((length,), "float32", name) for name in "ab")
    return te.create_prim_func([a, b, te.compute((length,), lambda i: body(a[i], b[i]), "out")])


def perturbed(shader: Shader, estimate: str, by: str) -> Shader:
    """``shader`` on a device whose own result, ``estimate``, is off by ``by`` relative to it."""
    assert estimate in shader.glsl
    glsl = shader.glsl.replace(estimate, f"({estimate}) * {by}")
    return replace(shader, glsl=glsl, spirv=assemble(shader.name, glsl, LAVAPIPE.environment))


def assert_bits(got: Array, expected: Array, what: str) -> None:
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan, what)
    np.testing.assert_array_equal(got[~nan].view(np.uint32), expected[~nan].view(np.uint32), what)


# Vulkan allows 2.5 units in the last place, 3.0e-7, and for a root what 1 / inversesqrt leaves, 2 + 2.5 units.
QUOTIENTS, ROOTS = ("1.0", "0.9999997", "1.0000003"), ("1.0", "0.9999994", "1.0000006")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("by", QUOTIENTS)
def test_division_of_all_kinds_of_numbers(by: str) -> None:
    shader = perturbed(
        shader_of_tir("divide", function(lambda a, b: a / b, COUNT), LAVAPIPE), "float(ma) / float(mb)", by
    )
    tame = np.random.default_rng(3).standard_normal((2, COUNT)).astype(np.float32)
    corners = np.resize(np.stack(np.meshgrid(special(), special())).reshape(2, -1), (2, COUNT))
    for name, (a, b) in {"bits": (floats(1), floats(2)), "tame": tame, "corners": corners}.items():
        with np.errstate(all="ignore"):
            expected = a / b
        assert_bits(run_shader(shader, [a, b], a.shape)[0], expected, name)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("by", ROOTS)
def test_square_roots_of_all_kinds_of_numbers(by: str) -> None:
    estimate = "sqrt(float(m) * (k == 24u ? 2.384185791015625e-07 : 1.1920928955078125e-07))"
    shader = perturbed(shader_of_tir("root", function(lambda a, b: tirx.sqrt(a) + b, COUNT), LAVAPIPE), estimate, by)
    squares = (np.arange(COUNT, dtype=np.float32) ** 2).astype(np.float32)
    for name, a in {"bits": floats(4), "corners": np.resize(special(), COUNT), "squares": squares}.items():
        with np.errstate(all="ignore"):
            expected = np.sqrt(a)
        assert_bits(run_shader(shader, [a, np.full_like(a, -0.0)], a.shape)[0], expected, name)
