"""What a driver may do wrong: answer with errors, be lost, lack a feature, or compute other products than it says."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import toy_bundle
from support.validated_vulkan import Said
from support.vulkan_plans import R, W, constants, multiplied, shader

from tvm_flow.backends.vulkan.payload import Argument, Dispatch, Pipeline, Scratch, ShaderKernel, encode_payload
from tvm_flow.bench.driven import ARENA, DeviceError, Driven, Memory, Plan, Tensor
from tvm_flow.run.status import Status

OUT_OF_HOST_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST, UNKNOWN = -1, -2, -4, -13
INVALID_EXTERNAL_HANDLE = -1000072003


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).parent / "c" / "faulty_vulkan.c"
    return toy_bundle.compile_c(tmp_path_factory.mktemp("faulty") / "libfaulty.so", [source], "-shared", "-fPIC")


@pytest.fixture(autouse=True)
def _as_loader(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TVM_FLOW_VULKAN_LOADER", str(faulty))
    yield


def test_a_lost_device_is_an_error_and_the_handle_can_be_closed(affine: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    with Driven(affine) as driven:
        driven.step(constants(1))
        driven.write(0, np.arange(13))
        driven.run()
        monkeypatch.setenv("FAULT", f"vkWaitForFences:{DEVICE_LOST}:0")
        with pytest.raises(DeviceError, match=r"k0_toy: the device was lost.*; close the handle") as caught:
            driven.run()
        assert caught.value.status == Status.KERNEL_FAILED
        monkeypatch.delenv("FAULT")
        with pytest.raises(DeviceError, match="the device was lost"):
            driven.run()


@pytest.mark.parametrize("own_memory", [0, 1], ids=["shared memory", "memory of its own"])
def test_every_failing_call_of_vulkan_is_an_error_and_nothing_stays(
    affine: Plan, faulty: Path, monkeypatch: pytest.MonkeyPatch, own_memory: int
) -> None:
    """The layers see to what Vulkan made; the services to the rest. Weights that are not imported are copied."""
    with Driven(affine, own_memory=own_memory):
        calls = ctypes.c_int.in_dll(ctypes.CDLL(str(faulty)), "faulty_calls").value
    assert calls > 20
    statuses = {OUT_OF_HOST_MEMORY: Status.NO_MEMORY, OUT_OF_DEVICE_MEMORY: Status.NO_MEMORY}
    copied = 0
    for call in range(calls):
        result = (OUT_OF_HOST_MEMORY, OUT_OF_DEVICE_MEMORY, UNKNOWN, DEVICE_LOST)[call % 4]
        memory = Memory()
        monkeypatch.setenv("FAULT", f"ANY:{result}:{call}")
        try:
            Driven(affine, memory, own_memory=own_memory).close()
        except DeviceError as error:
            assert error.status == statuses.get(result, Status.KERNEL_FAILED) and "; " in str(error)
        else:
            assert said_of_weights(memory) == f"are copied: the driver does not take their mapping, VkResult {result}"
            copied += 1
        assert not memory.held
    assert copied == (0 if own_memory else 4)


def said_of_weights(memory: Memory) -> str:
    (line,) = (line for line in memory.lines if "the weights " in line)
    return line.partition("the weights ")[2]


@pytest.mark.parametrize(
    ("fault", "skew", "line"),
    [
        ("", 0, "are read where they are mapped"),
        (f"vkAllocateMemory:{INVALID_EXTERNAL_HANDLE}:1", 0, "are copied: the driver"),
        ("nohost", 0, None),
        ("", 64, None),
    ],
    ids=["imported", "refused by the driver", "no such extension", "not at a page"],
)
def test_weights_are_read_where_they_are_or_copied(
    affine: Plan, monkeypatch: pytest.MonkeyPatch, fault: str, skew: int, line: str | None
) -> None:
    monkeypatch.setenv("FAULT", fault)
    with Driven(replace(affine, skew=skew)) as driven:
        driven.step(constants(3))
        driven.write(0, np.arange(13))
        driven.run()
        assert (driven.read(1) == np.arange(13) * np.arange(256, 269) + 3).all()
        lines = [each.partition("the weights ")[2] for each in driven.memory.lines if "the weights " in each]
        assert len(lines) == (line is not None) and all(each.startswith(str(line)) for each in lines)


def test_every_failing_call_of_a_timed_run_is_an_error_and_nothing_stays(
    affine: Plan, faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call of the clock is made where nobody asks."""
    calls = ctypes.c_int.in_dll(ctypes.CDLL(str(faulty)), "faulty_calls")
    with Driven(affine) as driven:
        begin = calls.value
        driven.timed()
        end = calls.value
    assert end - begin == 8
    for call in range(begin, end):
        monkeypatch.setenv("FAULT", f"ANY:{(UNKNOWN, DEVICE_LOST)[call % 2]}:{call}")
        with Driven(affine) as driven, pytest.raises(DeviceError, match="; "):
            driven.timed()
    monkeypatch.setenv("FAULT", f"vkCreateQueryPool:{UNKNOWN}:0")
    with Driven(affine) as driven:
        driven.run()
        driven.run(first=0, count=1)


def test_a_device_without_timestamps_says_so_and_runs(affine: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULT", "notime")
    with Driven(affine) as driven:
        assert driven.memory.lines[0].endswith(", no timestamps")
        assert driven.timed() is None


def test_products_that_are_not_what_the_driver_says_are_not_used(
    product: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "dot")
    with Driven(product) as driven:
        assert multiplied(driven)
        assert any("of 13 sums of integer dot products are wrong; they are not used" in s for s in driven.memory.lines)


def test_a_device_that_lacks_a_feature_is_refused_by_name(
    affine: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of it is taken: the layers would count a buffer that stays."""
    args = (Argument(0, 0, R), Argument(1, 1, R), Argument(2, 2, W))
    wide = Pipeline(shader("add", "-DWIDE", folder=tmp_path), (8, 1, 1))
    kernel = ShaderKernel((Dispatch(wide, (1, 1, 1), args),))
    plan = replace(affine, payload=encode_payload({"k": kernel}, ["k"]), calls=[(0, 1, 2)], segments=[1])
    with Driven(plan):
        pass
    monkeypatch.setenv("FAULT", "no64")
    with pytest.raises(DeviceError, match=r"a device with 64-bit integers.* got llvmpipe.*; choose another") as caught:
        Driven(plan)
    assert caught.value.status == Status.NO_DEVICE


@pytest.mark.parametrize(("reads", "between"), [(1, 1), (0, 0)], ids=["what the first wrote", "what it read too"])
def test_barriers_stand_only_where_a_call_meets_another(affine: Plan, faulty: Path, reads: int, between: int) -> None:
    """One before the calls and one after them are always there."""
    barriers = ctypes.c_int.in_dll(ctypes.CDLL(str(faulty)), "faulty_barriers")
    barriers.value = 0
    with Driven(replace(affine, calls=[(0, 3, 5, 1), (reads, 4, 5, 2)])):
        assert barriers.value == 2 + between


def test_the_layers_would_have_said_something(said: Said, affine: Plan, tmp_path: Path) -> None:
    """The second dispatch reads what the first writes and does not say so: no barrier is between them."""
    pipeline = Pipeline(shader("add", folder=tmp_path), (8, 1, 1))
    first = Dispatch(pipeline, (1, 1, 1), (Argument(0, 0, R), Argument(0, 1, R), Scratch(0, 32, 2, R)))
    second = Dispatch(pipeline, (1, 1, 1), (Scratch(0, 32, 0, R), Argument(0, 1, R), Argument(1, 2, W)))
    payload = encode_payload({"k": ShaderKernel((first, second))}, ["k"])
    with Driven(Plan([Tensor(ARENA, 64 * i, (8,), "int32") for i in range(2)], [(0, 1)], [1], payload)):
        pass
    with Driven(affine):
        pass
    assert "SYNC-HAZARD-READ" in said.take(), "and a later instance does not hide it"
