"""Neighbours on a device that wants larger graphs are one region, which computes what they computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.arm_npu import Array, codes, needs_npu_arm
from support.execution import HOST
from support.relax_kernels import gated, gelu_codes, like

from tvm_flow.backends.cpu.backend import CpuBackend
from tvm_flow.backends.npu.arm.backend import ArmBackend, blob_of
from tvm_flow.backends.npu.arm.client import EmulatedNpu
from tvm_flow.backends.npu.arm.ethos import ethos_text
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.backends.place import place_on
from tvm_flow.check.calls import ExactnessReport, check_call
from tvm_flow.graph.constants import Given, evaluate
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import KernelCall, Program, TensorSpec
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.toolchain.arm_npu import ethos_stream, serialized

M, K, N = 17, 19, 23
NAMES = ("x", "w1", "scale1", "bias1", "gain", "step", "w2", "scale2", "bias2", "gate", "residual")
INPUTS = ("x", "residual")


def arrays() -> dict[str, Array]:
    """What an MLP with a gate and a residual reads."""
    rng = np.random.default_rng(7)

    def floats(*shape: int, size: float = 1.0) -> Array:
        return (rng.uniform(0.2, 1.0, shape) * size).astype(np.float32)

    w1, w2 = codes(rng, K, N), codes(rng, N, K)
    first = [w1, floats(N, size=3 / (127 * 127 * K**0.5)), floats(N), floats(N), np.array(0.03, np.float32)]
    second = [w2, floats(K, size=1e-4), floats(K), floats(K), rng.standard_normal((M, K)).astype(np.float32)]
    return dict(zip(NAMES, [codes(rng, M, K), *first, *second], strict=True))


def mlp() -> Program:
    """Two calls: codes after GELU, and the linear that reads them."""
    given = arrays()
    middle = np.zeros((M, N), np.int8)
    kernels = {
        "first": like(gelu_codes, *(given[name] for name in NAMES[:6])),
        "second": like(gated, middle, *(given[name] for name in NAMES[6:])),
    }
    constants = {name: array for name, array in given.items() if name not in INPUTS}
    graph = LiftedGraph(None, INPUTS, {name: Given(name) for name in constants}, constants)
    tensors = {name: TensorSpec(array.shape, str(array.dtype)) for name, array in given.items()}
    tensors |= {"codes": TensorSpec((M, N), "int8"), "out": TensorSpec((M, K), "float32")}
    calls = (KernelCall("first", NAMES[:6], "codes"), KernelCall("second", ("codes", *NAMES[6:]), "out"))
    return Program(graph, kernels, calls, tensors, "out")


def arguments(packed: PackedProgram, position: int, made: dict[str, Any]) -> list[Array]:
    held = packed.program.graph.given
    return [
        evaluate(packed.constants[name], held) if name in packed.constants else made[name]
        for name in packed.program.calls[position].args
    ]


class Separate(ArmBackend):
    """The same, that wants no larger graphs."""

    def joins(self, first: Any, second: Any) -> bool:  # noqa: ARG002
        return False


def test_an_mlp_is_one_region_with_the_arithmetic_of_its_parts() -> None:
    apart, whole = (place_on(mlp(), HOST, [backend]) for backend in (Separate(), ArmBackend()))
    assert len(apart.program.calls) == 2 and len(whole.program.calls) == 1
    assert len(whole.program.calls[0].args) == len(NAMES) + 1, "a bias, and two scales that are multiplier and shift"
    made: dict[str, Any] = arrays()
    made["codes"] = apart.expected("first", arguments(apart, 0, made))
    want = apart.expected("second", arguments(apart, 1, made))
    got = whole.expected(whole.program.calls[0].kernel, arguments(whole, 0, arrays()))
    assert isinstance(want, Bounded) and isinstance(got, Bounded)
    assert np.array_equal(got.value, want.value) and np.array_equal(got.error, want.error)


@pytest.mark.parametrize("how", ["read twice", "an output", "on the CPU", "in the prologue"])
def test_calls_stay_apart_where(how: str) -> None:
    program = mlp()
    backends = [CpuBackend()] if how == "on the CPU" else [ArmBackend()]
    if how == "an output":
        program = replace(program, others=("codes",))
    if how == "in the prologue":
        program = replace(program, prologue=1)
    if how == "read twice":
        again = KernelCall("second", ("codes", *NAMES[6:]), "again")
        tensors = {**program.tensors, "again": program.tensors["out"]}
        program = replace(program, calls=(*program.calls, again), tensors=tensors)
    assert len(place_on(program, HOST, backends).program.calls) == len(program.calls)


@needs_npu_arm
def test_the_device_computes_it_and_ethos_u_takes_it_whole(tmp_path: Path) -> None:
    packed = place_on(mlp(), HOST, [ArmBackend()])
    args = arguments(packed, 0, arrays())
    with EmulatedNpu() as npu:
        data = npu.run(npu.load(blob_of(packed, 0, tmp_path)), args)
    got = np.frombuffer(data, np.float32).reshape(M, K)
    report = ExactnessReport()
    check_call(packed, 0, (*args, got), "here", report)
    assert (report.calls, report.near_ties) == (1, 0)
    (function,) = packed.program.kernels.values()
    constants = {i: arrays()[name] for i, name in enumerate(NAMES) if name not in INPUTS}
    stream = ethos_stream(serialized(ethos_text(function, constants)), "ethos-u55-256")
    assert stream.macs >= 2 * M * K * N
