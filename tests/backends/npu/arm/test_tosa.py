"""Graphs as they are written compute what numpy does, by the reference model; and three compilers take them."""

from __future__ import annotations

import numpy as np
import pytest
from support.arm_npu import Array, by_reference_model, codes, graph_of, needs_npu_arm

from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.errors import BuildError
from tvm_flow.numerics import accumulate
from tvm_flow.numerics.rescale import multiplier_and_shift, rescale
from tvm_flow.toolchain.arm_npu import ETHOS_U, ethos_stream, serialized, vgf_of

pytestmark = needs_npu_arm
RAGGED = [(1, 1, 1), (2, 3, 5), (7, 11, 13), (17, 19, 23), (31, 37, 41), (64, 128, 96)]


def linear(rng: np.random.Generator, m: int, k: int, n: int) -> list[Array]:
    """int8 codes, weights, bias, multipliers and shifts."""
    scales = multiplier_and_shift(rng.uniform(0.2, 1.0, n) * 40 / (127 * 127 * np.sqrt(k)))
    bias = rng.integers(-2000, 2000, n, dtype=np.int32)
    return [codes(rng, 1, 1, m, k), codes(rng, n, 1, 1, k), bias, *scales]


def build_linear(g: TosaGraph, x: Value, w: Value, b: Value, m: Value, s: Value) -> Value:
    return g.rescale(g.conv1x1(x, w, b), m, s, "int8")


def baked_linear(given: list[Array]) -> bytes:
    made, _ = graph_of(lambda g, x: build_linear(g, x, *map(g.constant, given[1:])), given[:1])
    return made


@pytest.mark.parametrize("shape", RAGGED)
def test_a_linear_of_any_shape_is_exact(shape: tuple[int, int, int]) -> None:
    x, w, b, m, s = given = linear(np.random.default_rng(0), *shape)
    sums = accumulate(x[0, 0], w[:, 0, 0]) + b
    got = by_reference_model(build_linear, *given)
    assert np.array_equal(got[0, 0], rescale(sums, m, s))
    assert shape == (1, 1, 1) or len(np.unique(got)) > 2, "or nothing is shown"


@pytest.mark.parametrize("shape", RAGGED)
def test_a_product_of_two_tensors_is_exact(shape: tuple[int, int, int]) -> None:
    rng, (m, k, n) = np.random.default_rng(1), shape
    a, b = codes(rng, 3, m, k), codes(rng, 3, k, n)
    assert np.array_equal(by_reference_model(TosaGraph.matmul, a, b), a.astype(np.int32) @ b.astype(np.int32))


def test_a_rescaled_sum_of_codes_is_exact() -> None:
    """Both sides in units of 2^-20 of twice the coarser scale, as int8 additions are usually written."""
    rng, unit = np.random.default_rng(2), 0.1 / (1 << 20)
    a, b = codes(rng, 1, 33, 7), codes(rng, 1, 33, 7)
    ma, mb, mo = (multiplier_and_shift([scale]) for scale in (0.05 / unit, 0.02 / unit, unit / 0.06))

    def build(g: TosaGraph, x: Value, y: Value) -> Value:
        wide = [g.rescale(v, *map(g.constant, m), "int32") for v, m in ((x, ma), (y, mb))]
        return g.rescale(g.elementwise("add", *wide), *map(g.constant, mo), "int8")

    expected = rescale(rescale(a, *ma, np.int32) + rescale(b, *mb, np.int32), *mo)
    assert np.array_equal(by_reference_model(build, a, b), expected)
    assert np.abs(expected - np.clip(np.rint((a * 0.05 + b * 0.02) / 0.06), -128, 127)).max() <= 1


def test_floats_are_multiplied_added_cast_and_moved_as_numpy_does() -> None:
    rng = np.random.default_rng(4)
    x, v = codes(rng, 6, 10, dtype=np.int32) >> 8, rng.standard_normal((1, 10)).astype(np.float32)

    def build(g: TosaGraph, a: Value, b: Value) -> Value:
        scaled = g.elementwise("mul", g.cast(a, "float32"), b)
        return g.transpose(g.reshape(g.elementwise("add", scaled, b), (2, 3, 10)), (2, 0, 1))

    expected = (x.astype(np.float32) * v + v).reshape(2, 3, 10).transpose(2, 0, 1)
    assert np.array_equal(by_reference_model(build, x, v), expected)


def test_floats_become_codes_half_to_even_and_saturate() -> None:
    x = np.array([[-200.0, -1.5, -0.5, 0.5, 1.5, 2.5, 200.0]], np.float32)
    got = by_reference_model(lambda g, a: g.cast(a, "int8"), x)
    assert got.tolist() == [[-128, -2, 0, 0, 2, 2, 127]]


@pytest.mark.parametrize("accelerator", ETHOS_U)
def test_every_ethos_u_takes_a_linear_and_says_what_it_costs(accelerator: str) -> None:
    stream = ethos_stream(baked_linear(linear(np.random.default_rng(0), 17, 64, 48)), accelerator)
    assert stream.commands[:4] == b"COP1" and stream.cycles > 0 and 0 < stream.utilisation <= 1
    assert stream.macs >= 17 * 64 * 48 and len(stream.weights) > 0


def test_a_vgf_is_made_of_a_linear_whose_constants_are_all_inputs() -> None:
    made, _ = graph_of(build_linear, linear(np.random.default_rng(0), 8, 16, 24))
    assert vgf_of(made)[:3] == b"VGF"


class TestRefused:
    """What the module's table says of Ethos-U: if a later version takes it, the table changes."""

    def test_multipliers_as_inputs_by_every_ethos_u(self) -> None:
        given = linear(np.random.default_rng(0), 8, 16, 24)

        def build(g: TosaGraph, x: Value, m: Value) -> Value:
            return build_linear(g, x, g.constant(given[1]), g.constant(given[2]), m, g.constant(given[4]))

        made, _ = graph_of(build, [given[0], given[3]])
        for accelerator in ("ethos-u55-256", "ethos-u65-512", "ethos-u85-512"):
            with pytest.raises(BuildError, match=f"{accelerator} command stream: expected vela to make it"):
                ethos_stream(made, accelerator)

    @pytest.mark.parametrize(("accelerator", "taken"), [("ethos-u55-256", False), ("ethos-u85-512", True)])
    def test_weights_as_inputs_by_ethos_u55(self, accelerator: str, taken: bool) -> None:
        given = linear(np.random.default_rng(0), 8, 16, 24)
        made, _ = graph_of(lambda g, x, w: build_linear(g, x, w, *map(g.constant, given[2:])), given[:2])
        if taken:
            assert ethos_stream(made, accelerator).cycles > 0
            return
        with pytest.raises(BuildError, match=r"Conv2D"):
            ethos_stream(made, accelerator)

    def test_floats_by_every_ethos_u(self) -> None:
        x = np.ones((1, 4, 8), np.float32)
        made, _ = graph_of(lambda g, a: g.elementwise("add", a, a), [x])
        with pytest.raises(BuildError, match="ethos-u85-512 command stream"):
            ethos_stream(made, "ethos-u85-512")

    def test_an_accelerator_that_does_not_exist(self) -> None:
        with pytest.raises(BuildError, match="'ethos-u99': expected one of"):
            ethos_stream(b"", "ethos-u99")

    def test_text_that_is_no_graph_with_the_tools_words(self) -> None:
        with pytest.raises(BuildError, match="TOSA graph: expected tosa-opt to make it"):
            serialized("module { nothing }")
