"""The device of the runtime on a real driver, by its vtable."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.vulkan_plans import R, W, constants, multiplied, shader

from tvm_flow.backends.vulkan.payload import Argument, Dispatch, Pipeline, Scratch, ShaderKernel, encode_payload
from tvm_flow.bench.driven import ARENA, PROMPT, DeviceError, Driven, Memory, Plan, Tensor
from tvm_flow.run.status import Status
from tvm_flow.run.vulkan_list import vulkan_devices


@pytest.mark.parametrize("own_memory", [0, 1], ids=["shared memory", "memory of its own"])
class TestRuns:
    def test_a_segment_is_replayed_with_what_changed(self, affine: Plan, own_memory: int) -> None:
        x = np.arange(13)
        with Driven(affine, own_memory=own_memory) as driven:
            for number in (5, 7):
                driven.step(constants(number))
                driven.write(0, x * number)
                driven.run()
                y = x * number * np.arange(256, 269) + number
                assert (driven.read(1) == y).all()
                assert (driven.read(2) == y * np.arange(48, 61) + number).all()

    def test_a_call_alone_gives_the_same(self, affine: Plan, own_memory: int) -> None:
        with Driven(affine, own_memory=own_memory) as driven:
            driven.step(constants(3))
            driven.write(0, np.arange(13))
            driven.run()
            whole = driven.read(2)
            driven.write(2, np.zeros(13))
            driven.run(first=0, count=1)
            assert (driven.read(2) == 0).all()
            driven.run(first=1, count=1)
            assert (driven.read(2) == whole).all()

    def test_a_prompt_is_kept_for_each_branch(self, own_memory: int, tmp_path: Path) -> None:
        args = (Argument(0, 0, R), Argument(1, 1, R), Argument(2, 2, W))
        kernel = ShaderKernel((Dispatch(Pipeline(shader("add", folder=tmp_path), (8, 1, 1)), (1, 1, 1), args),))
        kept, x, y = (
            Tensor(PROMPT, 64, (8,), "int32"),
            Tensor(ARENA, 0, (8,), "int32"),
            Tensor(ARENA, 64, (8,), "int32"),
        )
        payload = encode_payload({"k": kernel}, ["k", "k"])
        plan = Plan([x, kept, y], [(0, 0, 1), (1, 0, 2)], [1, 1], payload, prompt_bytes=96)
        with Driven(plan, branches=2, own_memory=own_memory) as driven:
            for branch in (0, 1):
                driven.write(0, np.full(8, 10 + branch))
                driven.run(0, branch=branch)
            for branch in (0, 1):
                assert (driven.read(1, branch) == 20 + 2 * branch).all()
                driven.run(1, 1, branch=branch)
                assert (driven.read(2) == 31 + 2 * branch).all()

    def test_a_kernel_of_several_dispatches_has_memory_between_them(self, own_memory: int, tmp_path: Path) -> None:
        pipeline = Pipeline(shader("add", folder=tmp_path), (8, 1, 1))
        first = Dispatch(pipeline, (1, 1, 1), (Argument(0, 0, R), Argument(0, 1, R), Scratch(64, 32, 2, W)))
        second = Dispatch(pipeline, (1, 1, 1), (Scratch(64, 32, 0, R), Argument(0, 1, R), Argument(1, 2, W)))
        plan = Plan(
            [Tensor(ARENA, 0, (8,), "int32"), Tensor(ARENA, 64, (8,), "int32")],
            [(0, 1)],
            [1],
            encode_payload({"k": ShaderKernel((first, second))}, ["k"]),
        )
        with Driven(plan, own_memory=own_memory) as driven:
            driven.write(0, np.arange(8))
            driven.run()
            assert (driven.read(1) == 3 * np.arange(8)).all()


class TestIntegerDotProduct:
    def test_is_taken_after_its_self_test(self, product: Plan) -> None:
        with Driven(product) as driven:
            assert multiplied(driven)
            what, made = driven.memory.lines  # and no complaint
            assert "llvmpipe" in what and re.search(r": 1 pipelines in \d+ ms$", made)

    def test_is_not_used_where_it_was_declined(self, product: Plan) -> None:
        with Driven(product, plain_products=1) as driven:
            assert multiplied(driven)

    def test_without_a_fallback_a_device_without_it_is_refused_by_name(self, product: Plan, tmp_path: Path) -> None:
        args = (Argument(0, 0, R), Argument(1, 0, R), Argument(2, 0, W))
        pipeline = Pipeline(shader("product", folder=tmp_path), (8, 1, 1))
        kernel = ShaderKernel((Dispatch(pipeline, (1, 1, 1), args),))
        plan = replace(product, payload=encode_payload({"k": kernel}, ["k"]))
        with pytest.raises(DeviceError, match=r"a device with integer dot product.* got llvmpipe.* another") as caught:
            Driven(plan, plain_products=1)
        assert caught.value.status == Status.NO_DEVICE


class TestClock:
    def test_times_a_segment_and_a_call_alone_and_changes_nothing(self, affine: Plan) -> None:
        with Driven(affine) as driven:
            driven.step(constants(3))
            driven.write(0, np.arange(13))
            driven.run()
            whole = driven.read(2)
            for first, count in ((0, 2), (0, 1), (1, 1)):
                driven.write(2, np.zeros(13))
                started = time.perf_counter_ns()
                taken = driven.timed(first=first, count=count)
                assert taken is not None and 0 < taken < time.perf_counter_ns() - started
                assert (driven.read(2) == (whole if first + count == 2 else 0)).all()


class TestChoice:
    def test_by_number_name_and_uuid(self, affine: Plan) -> None:
        (uuid,) = (device.uuid for device in vulkan_devices() if device.name.startswith("llvmpipe"))
        for wanted in ("0", "LLVMpipe", uuid.hex, str(uuid).upper()):
            with Driven(affine, device=wanted.encode()) as driven:
                assert "llvmpipe" in driven.memory.lines[0]

    def test_of_what_is_not_there_is_refused_by_name(self, affine: Plan) -> None:
        for wanted in (b"Adreno", b"7", b"0" * 32, b"0" * 31):
            with pytest.raises(DeviceError, match=f"a device {wanted.decode()}, got") as caught:
                Driven(affine, device=wanted)
            assert caught.value.status == Status.NO_DEVICE

    def test_without_libvulkan_is_an_error(self, affine: Plan) -> None:
        with pytest.raises(DeviceError, match=r"libvulkan\.so\.1 .* got: .*nowhere") as caught:
            Driven(affine, loader=b"/nowhere/libvulkan.so")
        assert caught.value.status == Status.NO_DEVICE


def test_a_damaged_payload_is_refused_or_still_runs(affine: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of the tables, too large by itself and for its sum; but for what is the shader's own, its constants
    and its code."""
    monkeypatch.delenv("VK_INSTANCE_LAYERS")
    header, constants_begin, constants_end, code = 12, 24, 28, 58
    refused = []
    for word in (*range(constants_begin), *range(constants_end, code)):
        for value in (0x7FFFFFF1, 0xFFFFFFFE):
            damaged = bytearray(affine.payload)
            damaged[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
            try:
                Driven(replace(affine, payload=bytes(damaged))).close()
            except DeviceError as error:
                expected = (Status.BAD_LIBRARY, Status.WRONG_ABI, Status.NO_DEVICE, Status.NO_MEMORY)
                assert error.status in expected and "; " in str(error)
                refused.append(word)
    assert {*range(header)} <= {*refused} and len(refused) > 60


@pytest.mark.parametrize("size", [0, 4, 47, 48, -4, -1])
def test_a_cut_payload_is_refused(affine: Plan, size: int) -> None:
    with pytest.raises(DeviceError, match="; compile the bundle again") as caught:
        Driven(replace(affine, payload=affine.payload[:size]))
    assert caught.value.status == Status.BAD_LIBRARY


def test_every_failing_allocation_is_an_error_and_nothing_stays(affine: Plan) -> None:
    with Driven(affine) as driven:
        taken = driven.memory.taken
    assert taken > 5
    for fails in range(taken):
        memory = Memory(fails=fails)
        with pytest.raises(DeviceError, match="no memory for") as caught:
            Driven(affine, memory)
        assert caught.value.status == Status.NO_MEMORY and not memory.held
