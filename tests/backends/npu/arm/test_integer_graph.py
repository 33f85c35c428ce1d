"""Integer arithmetic as a TOSA graph: what it gives on arrays, the specification's model gives bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.arm_npu import Array, codes, needs_npu_arm
from support.integer_blocks import BLOCKS, block_inputs, integer_block

from tvm_flow.backends.npu.arm.integer_graph import IntegerGraph
from tvm_flow.numerics.integer_rows import MASKED, Attended, attention, scaling, unit_rows
from tvm_flow.numerics.tosa_operators import NumpyOperators
from tvm_flow.quantize.integer_block import BlockWriter
from tvm_flow.toolchain.arm_npu import ethos_stream, reference_outputs, serialized

pytestmark = needs_npu_arm
RNG = np.random.default_rng(0)
WIDE = codes(RNG, 3, 5, 7, dtype=np.int32) >> 8
SMALL = np.abs(WIDE) & 15
Build = Callable[..., Any]


def graph_and_result(build: Build, inputs: list[Array], baked: bool = True) -> tuple[bytes, Array]:
    """The flatbuffer, and what the reference model gives of it."""
    ops = IntegerGraph(baked)
    output = build(ops, *(ops.graph.input(array.shape, str(array.dtype)) for array in inputs))
    made = serialized(ops.graph.text(output))
    (found,) = reference_outputs(made, [*inputs, *ops.arrays])
    return made, found.view(output.dtype).reshape(output.shape)


OPERATORS: dict[str, tuple[Build, list[Array]]] = {
    "add": (lambda o, a, b: o.elementwise("add", a, b), [WIDE, SMALL]),
    "maximum": (lambda o, a, b: o.elementwise("maximum", a, b), [WIDE, SMALL]),
    "product": (lambda o, a, b: o.multiply(a, b), [codes(RNG, 2, 5, dtype=np.int16), codes(RNG, 1, 5, dtype=np.int16)]),
    "high product": (lambda o, a, b: o.multiply(a, b, 31), [WIDE << 7, WIDE << 7]),
    "left shift": (lambda o, a, b: o.shift("logical_left_shift", a, b), [WIDE >> 10, SMALL]),
    "right shift": (lambda o, a, b: o.shift("arithmetic_right_shift", a, b), [WIDE, SMALL]),
    "rounded shift": (lambda o, a, b: o.shift("arithmetic_right_shift", a, b, True), [WIDE, SMALL]),
    "leading zeros": (lambda o, a: o.clz(o.magnitude(a)), [WIDE >> SMALL]),
    "sum": (lambda o, a: o.reduce("reduce_sum", a, 1), [WIDE]),
    "largest": (lambda o, a: o.reduce("reduce_max", a, 2), [WIDE]),
    "cast": (lambda o, a: o.cast(a, "int16"), [SMALL]),
    "parts": (lambda o, a: o.concat([o.slice(a, 1, 3, 5), o.slice(a, 1, 0, 2)], 1), [WIDE]),
    "zero point": (lambda o, a: o.rescale(a, scaling(o, 2.0**-14), "int8", zero=-128), [WIDE]),
    "product less a zero point": (lambda o, a, b: o.matmul(a, b, -128), [codes(RNG, 2, 3, 5), codes(RNG, 2, 5, 4)]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_the_reference_models(name: str) -> None:
    build, inputs = OPERATORS[name]
    _, got = graph_and_result(build, inputs)
    expected = build(NumpyOperators(), *inputs)
    assert got.dtype == expected.dtype and np.array_equal(got, expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 5, 24), (1, 17, 96)])
@pytest.mark.parametrize("centered", [True, False])
def test_norms_are_exact_for_rows_of_any_size(shape: tuple[int, ...], centered: bool) -> None:
    x = codes(RNG, *shape, dtype=np.int16) >> RNG.integers(0, 15, (*shape[:2], 1), dtype=np.int16)
    x[0, 0] = 0
    _, got = graph_and_result(lambda o, a: unit_rows(o, a, centered), [x])
    assert np.array_equal(got, unit_rows(NumpyOperators(), x, centered))


@pytest.mark.parametrize(("length", "scale"), [(1, 1e-3), (5, 3e-4), (19, 1e-2)])
def test_attention_is_exact_with_a_mask_and_without(length: int, scale: float) -> None:
    q, k, v = codes(RNG, 3, 7, 12), codes(RNG, 3, 12, length), codes(RNG, 3, length, 12)
    mask = np.where(np.arange(length) < 4, 0, MASKED).astype(np.int32).reshape(1, 1, length)
    for inputs in ([q, k, v], [q, k, v, mask]):
        _, got = graph_and_result(lambda o, *given: attention(o, Attended(*given), scale), inputs)
        assert np.array_equal(got, attention(NumpyOperators(), Attended(*inputs), scale))


@pytest.mark.parametrize("baked", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_whole_block_is_exact_and_ethos_u_takes_all_of_it(name: str, baked: bool) -> None:
    block, (x, y, mask) = integer_block(name), block_inputs()
    reference = BlockWriter(NumpyOperators(), block)
    kv = reference.caption_codes(y)
    made, got = graph_and_result(lambda o, *given: BlockWriter(o, block).run(*given), [x, kv, mask], baked)
    assert np.array_equal(got, reference.run(x, kv, mask))
    if baked:
        assert ethos_stream(made, "ethos-u55-256" if name == "blocks.0" else "ethos-u85-512").cycles > 0
        _, got = graph_and_result(lambda o, a: BlockWriter(o, block).caption_codes(a), [y])
        assert np.array_equal(got, kv)


def test_ethos_u55_takes_a_largest_of_rows_of_any_length() -> None:
    """It has no REDUCE_MAX."""
    for extent in (1, 2, 7, 33):
        x = codes(RNG, 2, 3, extent, dtype=np.int32)
        made, got = graph_and_result(lambda o, a: o.reduce("reduce_max", o.magnitude(a), 2), [x >> 1])
        assert np.array_equal(got[..., 0], np.abs(x >> 1).max(-1))
        assert ethos_stream(made, "ethos-u55-256").cycles > 0
