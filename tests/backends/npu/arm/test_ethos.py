"""Integer regions for Ethos-U: what the VGF's kernel computes, with everything baked in, on every variant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.arm_npu import Array, codes, needs_npu_arm
from support.relax_kernels import function_of, gated, gelu_codes, like, linear
from tvm.relax import op as R

from tvm_flow.backends.npu.arm.constants import AFTER, AFTER_SHIFT, BEFORE, BEFORE_SHIFT, BIASED, CONV1X1
from tvm_flow.backends.npu.arm.ethos import ethos_text, is_region
from tvm_flow.backends.npu.arm.gelu import gelu_codes as gelu_arithmetic
from tvm_flow.errors import BuildError, QuantizeError
from tvm_flow.graph.constants import RULES, Derived, Given, shape_and_dtype
from tvm_flow.graph.integers import integers_call
from tvm_flow.numerics import accumulate
from tvm_flow.numerics.integer_program import IntegerProgram, Recorder
from tvm_flow.numerics.integer_tables import UNIT
from tvm_flow.numerics.rescale import multiplier_and_shift, rescale
from tvm_flow.toolchain.arm_npu import ETHOS_U, ethos_stream, reference_outputs, serialized

M, K, N = 17, 19, 23


def arrays() -> list[Array]:
    """Codes, weights, the sums' scale and bias, a gain, a step."""
    rng = np.random.default_rng(5)
    scale = (rng.uniform(0.2, 1.0, N) * 3 / (127 * 127 * np.sqrt(K))).astype(np.float32)
    bias, gain = rng.normal(0, 0.5, N).astype(np.float32), rng.uniform(0.5, 2.0, N).astype(np.float32)
    return [codes(rng, M, K), codes(rng, K, N), scale, bias, gain, np.array(0.03, np.float32)]


def region(kernel: Callable[..., Any], given: list[Array]) -> bytes:
    return serialized(ethos_text(like(kernel, *given), dict(enumerate(given[1:], 1))))


def outputs(graph: bytes, x: Array, dtype: str) -> Array:
    return reference_outputs(graph, [x[None, None]])[0].view(dtype).reshape(M, N)


@needs_npu_arm
def test_a_linear_gives_16_bits_in_a_fixed_unit() -> None:
    x, w, scale, bias = given = arrays()[:4]
    sums = accumulate(x, w.T) + np.rint(bias.astype(np.float64) / scale).astype(np.int32)
    expected = rescale(sums, *multiplier_and_shift(scale.astype(np.float64) / UNIT), np.int16)
    got = outputs(region(linear, given), x, "int16")
    assert np.array_equal(got, expected)
    exact = accumulate(x, w.T) * scale.astype(np.float64) + bias
    assert np.abs(got * UNIT - exact).max() <= UNIT / 2 + scale.max() / 2, "half a unit, and the bias's own rounding"


@needs_npu_arm
def test_codes_after_gelu_are_those_of_the_vgf_bit_for_bit() -> None:
    x, w, scale, bias, gain, step = given = arrays()
    constants = [RULES[BIASED](bias, scale, K), RULES[BEFORE](scale, K), RULES[BEFORE_SHIFT](scale, K)]
    constants += [RULES[AFTER](gain, step), RULES[AFTER_SHIFT](gain, step)]
    expected = gelu_arithmetic([x, CONV1X1.pack(w), *constants])
    assert np.array_equal(outputs(region(gelu_codes, given), x, "int8"), expected)


@needs_npu_arm
@pytest.mark.parametrize("accelerator", ETHOS_U)
def test_every_variant_compiles_both_regions(accelerator: str) -> None:
    for kernel, given in ((linear, arrays()[:4]), (gelu_codes, arrays())):
        stream = ethos_stream(region(kernel, given), accelerator)
        assert stream.cycles > 0 and stream.commands[:4] == b"COP1" and len(stream.weights) > K * N


def test_what_follows_a_linear_is_outside() -> None:
    """A gate and a residual do not change the region."""
    given = arrays()[:5]
    residual = np.zeros((M, N), np.float32)
    whole = ethos_text(like(gated, *given, residual), dict(enumerate(given[1:], 1)))
    assert whole == ethos_text(like(linear, *given[:4]), dict(enumerate(given[1:4], 1)))


def test_another_kernel_is_refused() -> None:
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    with pytest.raises(BuildError, match="expected a linear of codes"):
        ethos_text(like(lambda emit, x, y: emit(R.matmul(x, y)), a, b), {1: b})


def test_a_scale_that_is_no_constant_is_refused() -> None:
    given = arrays()[:4]
    with pytest.raises(BuildError, match="expected a constant, which a command stream holds"):
        ethos_text(like(linear, *given), {1: given[1], 3: given[3]})


class TestConstants:
    """What leaves the range of the integers is an error when a bundle is made, and not a wrong code."""

    def test_a_bias_beyond_the_accumulator(self) -> None:
        with pytest.raises(QuantizeError, match=r"sums below 2\^30"):
            RULES[BIASED](np.float32([1e6]), np.float32([1e-4]), K)

    def test_a_scale_that_takes_sums_beyond_the_shift(self) -> None:
        with pytest.raises(QuantizeError, match=r"less than 2\^\(shift - 1\)"):
            RULES[BEFORE](np.float32([1.0]), 1 << 15)

    @pytest.mark.parametrize("gain", [0.05, 0.0, -1.0])
    def test_codes_that_saturate_beyond_the_table(self, gain: float) -> None:
        with pytest.raises(QuantizeError, match="saturate below 16"), np.errstate(divide="ignore"):
            RULES[AFTER](np.float32([gain]), np.float32(0.03))

    def test_shapes_and_types_are_known_without_values(self) -> None:
        """Ones are no scales that the rules take."""
        n, depth = 3, 5
        given = {"vector": np.full(n, 0.25, np.float32), "scale": np.array(0.02, np.float32)}
        vector, scale = Given("vector"), Given("scale")
        for rule, sources, options in (
            (BIASED, (vector, vector), (depth,)),
            (BEFORE, (vector,), (depth,)),
            (BEFORE_SHIFT, (vector,), (depth,)),
            (AFTER, (vector, scale), ()),
            (AFTER_SHIFT, (vector, scale), ()),
        ):
            blank = {name: np.ones_like(array) for name, array in given.items()}
            made = RULES[rule](*(given[source.name] for source in sources), *options)
            assert shape_and_dtype(Derived(rule, sources, options), blank) == (made.shape, str(made.dtype))


def added_sums() -> IntegerProgram:
    """A tensor of int32 plus a linear's sums: two inputs, two constants."""
    ops = Recorder()
    x, y = ops.input((1, 1, M, K), "int8"), ops.input((1, 1, M, N), "int32")
    w, bias = ops.given(np.zeros((N, 1, 1, K), np.int8)), ops.given(np.zeros(N, np.int32))
    return ops.program(ops.elementwise("add", ops.conv1x1(x, w, bias), y))


@needs_npu_arm
def test_a_kernel_of_integers_is_a_region_whose_inputs_keep_their_order() -> None:
    program, rng = added_sums(), np.random.default_rng(7)
    shapes = [(spec.shape, spec.dtype) for spec in program.inputs]
    kernel = function_of(lambda emit, *args: emit(integers_call(program, args)), *shapes)
    x, w = codes(rng, *shapes[0][0]), codes(rng, *shapes[2][0])
    y, bias = (rng.integers(-1000, 1000, shapes[i][0], dtype=np.int32) for i in (1, 3))
    graph = serialized(ethos_text(kernel, {2: w, 3: bias}))
    got = reference_outputs(graph, [x, y])[0].view(np.int32).reshape(1, 1, M, N)
    assert is_region(kernel) and np.array_equal(got, accumulate(x, w[:, 0, 0]) + bias + y)
    for accelerator in ("ethos-u55-256", "ethos-u85-512"):
        stream = ethos_stream(graph, accelerator)
        first, second = stream.input_offsets
        assert first + x.nbytes <= second or second + y.nbytes <= first
        assert first + x.nbytes <= stream.scratch_bytes >= second + y.nbytes
