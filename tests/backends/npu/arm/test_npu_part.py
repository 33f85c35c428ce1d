"""The device npu_arm in C: VGFs by VK_ARM_tensors and VK_ARM_data_graph, here in Arm's emulation layer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from support.arm_npu import Array, by_reference_model, codes, graph_of, needs_npu_arm
from support.npu_driven import NpuDriven, Table, in_a_row, plan_of

from tvm_flow.backends.npu.arm.npu_device import emulation_layers
from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.bench.driven import ARENA, PROMPT, STEP, WEIGHTS, DeviceError, Memory, Plan
from tvm_flow.numerics.rescale import multiplier_and_shift
from tvm_flow.toolchain.arm_npu import vgf_of

pytestmark = needs_npu_arm
M, K, N = 5, 19, 23


def linear(g: TosaGraph, x: Value, w: Value, bias: Value, multiplier: Value, shift: Value) -> Value:
    return g.rescale(g.conv1x1(x, w, bias), multiplier, shift, "int8")


def operands(seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    multiplier, shift = multiplier_and_shift(rng.uniform(0.0005, 0.002, N))
    return [
        *(codes(rng, 1, 1, M, K), codes(rng, N, 1, 1, K), rng.integers(-9999, 9999, N, dtype=np.int32)),
        *(multiplier.astype(np.int32), shift.astype(np.int8)),
    ]


@pytest.fixture(scope="module")
def vgf() -> bytes:
    return vgf_of(graph_of(linear, operands())[0])


@pytest.fixture(scope="module")
def simple(vgf: bytes) -> Iterator[Plan]:
    table = Table(vgf)
    yield plan_of(table, [*operands(), np.zeros((M, N), np.int8)], [ARENA] * 6)
    assert table.kept


def test_a_linear_in_every_space_is_the_reference_models() -> None:
    """Two calls of one graph, the second of the first's output; two branches with codes of their own; two steps."""
    rng = np.random.default_rng(3)
    square = [codes(rng, 1, 1, M, N), codes(rng, N, 1, 1, N), *operands(1)[2:]]
    again = vgf_of(graph_of(linear, square)[0])
    table = Table(again, 2)
    _, weight, bias, multiplier, shift = square
    out = np.zeros((M, N), np.int8)
    arrays = [square[0], weight, bias, multiplier, shift, out, out]
    tensors, ends = in_a_row(arrays, [PROMPT, WEIGHTS, WEIGHTS, STEP, STEP, ARENA, ARENA])
    weights = weight.tobytes().ljust(tensors[2].offset, b"\0") + bias.tobytes()
    plan = Plan(
        *(tensors, [(0, 1, 2, 3, 4, 5), (5, 1, 2, 3, 4, 6)], [2], table.payload),
        weights=weights,
        step_bytes=ends[STEP],
        arena_bytes=ends[ARENA],
        prompt_bytes=ends[PROMPT],
    )
    first = [square[0], np.flip(square[0], 2).copy()]
    with NpuDriven(plan, branches=2) as driven:
        for branch, x in enumerate(first):
            driven.write(0, x, branch)
        for step in (5, 6):
            scales = operands(step)[3:]
            block = scales[0].tobytes().ljust(tensors[4].offset, b"\0") + scales[1].tobytes()
            for branch, x in enumerate(first):
                driven.step(block.ljust(ends[STEP], b"\0"), branch)
                driven.run(branch=branch)
                expected = by_reference_model(linear, x, weight, bias, *scales)
                assert np.array_equal(driven.read(5), expected.reshape(M, N))
                expected = by_reference_model(linear, expected.reshape(1, 1, M, N), weight, bias, *scales)
                assert np.array_equal(driven.read(6), expected.reshape(M, N))


def test_constants_in_the_file_are_the_graphs() -> None:
    rng = np.random.default_rng(2)
    x, table, added = codes(rng, 4, 16), codes(rng, 256), rng.integers(-9, 9, (4, 16), dtype=np.int32)

    def build(g: TosaGraph, given: Value) -> Value:
        return g.elementwise("add", g.cast(g.table(given, g.constant(table)), "int32"), g.constant(added))

    blob = Table(vgf_of(graph_of(build, [x])[0]))
    with NpuDriven(plan_of(blob, [x, added], [ARENA, ARENA])) as driven:
        driven.write(0, x)
        driven.run()
        assert np.array_equal(driven.read(1), by_reference_model(build, x))


def test_the_process_and_other_devices_do_not_see_the_layers(simple: Plan) -> None:
    before = dict(os.environ)
    lacks = r"device npu_arm: expected a device with VK_ARM_\w+, got .* without"
    with NpuDriven(simple), pytest.raises(DeviceError, match=lacks):
        NpuDriven(simple, layers=b"")
    assert dict(os.environ) == before


def test_parts_of_a_segment_are_timed_by_the_devices_clock(simple: Plan) -> None:
    with NpuDriven(simple) as driven:
        for row, array in enumerate(operands()):
            driven.write(row, array)
        assert (driven.timed() or 0) > 0
        assert np.array_equal(driven.read(5), by_reference_model(linear, *operands()).reshape(M, N))


def test_every_allocation_that_fails_is_an_error_and_nothing_leaks(simple: Plan) -> None:
    count = 0
    while True:
        memory = Memory(fails=count)
        try:
            NpuDriven(simple, memory).close()
        except DeviceError as error:
            assert "no memory" in str(error) and not memory.held
            count += 1
        else:
            break
    assert count > 10


class TestRefusals:
    def test_layers_that_are_not_there(self, simple: Plan) -> None:
        with pytest.raises(DeviceError, match=r"expected to load a layer of Vulkan, got: .*nowhere.so"):
            NpuDriven(simple, layers=b"/nowhere.so")

    def test_a_library_that_is_no_layer(self, simple: Plan) -> None:
        with pytest.raises(DeviceError, match=r"expected libc.so.6 to be a layer of Vulkan, got another library"):
            NpuDriven(simple, layers=b"libc.so.6")

    def test_too_many_layers(self, simple: Plan) -> None:
        layer = str(emulation_layers()[0]).encode()
        with pytest.raises(DeviceError, match="expected at most 4 layers"):
            NpuDriven(simple, layers=b":".join([layer] * 5))

    def test_a_loader_that_is_not_there(self, simple: Plan) -> None:
        with pytest.raises(DeviceError, match=r"nowhere\.so"):
            NpuDriven(simple, loader=b"/nowhere.so")

    def test_a_payload_of_another_length(self, simple: Plan) -> None:
        with pytest.raises(DeviceError, match="segment 0: expected a payload of 1 graphs, got another"):
            NpuDriven(replace(simple, payload=simple.payload + bytes(16)))

    def test_a_payload_that_is_no_vgf(self, vgf: bytes) -> None:
        table = Table(b"VGF2" + vgf[4:])
        with pytest.raises(DeviceError, match="k0_toy: expected the VGF of a graph, got no VGF; compile"):
            NpuDriven(plan_of(table, [*operands(), np.zeros((M, N), np.int8)], [ARENA] * 6))

    def test_a_call_of_other_tensors_than_the_graphs(self, vgf: bytes) -> None:
        table = Table(vgf)
        arrays = [*operands(), np.zeros((M, N + 1), np.int8)]
        with pytest.raises(DeviceError, match="argument 5: expected 120 bytes, as the plan has it, got 115"):
            NpuDriven(plan_of(table, arrays, [ARENA] * 6))
        with pytest.raises(DeviceError, match="expected a graph of 4 inputs and one output, got 5 and 1"):
            NpuDriven(plan_of(table, arrays[1:], [ARENA] * 5))
