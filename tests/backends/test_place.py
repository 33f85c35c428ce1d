"""Kernels go to the first backend that offers; what it says, and what those before it said, is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from support.execution import HOST, imported
from support.onnx_graphs import model, node

from tvm_flow.backends.base import Artifacts, CompileJob, Kernel, Offer
from tvm_flow.backends.cpu.backend import CpuBackend
from tvm_flow.backends.packed import CPU, Refusal
from tvm_flow.backends.place import place, place_on
from tvm_flow.backends.registry import backend_named, forget_backend, register_backend
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.graph.constants import evaluate
from tvm_flow.graph.program import Program
from tvm_flow.lower.partition import partition
from tvm_flow.target.spec import TargetSpec


@dataclass(frozen=True)
class Picky:
    """Takes kernels whose name has ``wanted``."""

    wanted: str
    name: str = "picky"
    version: str = "1"
    asked: list[str] = field(default_factory=list)

    def offers(self, kernel: Kernel, target: TargetSpec) -> Offer | Refusal:
        self.asked.append(f"{kernel.name} for {target.name}")
        return Offer("by hand") if self.wanted in kernel.name else Refusal("not wanted", "ask another")

    def compile(self, job: CompileJob, folder: Path) -> Artifacts:
        raise AssertionError((job, folder))

    def runtime_library(self) -> Path | None:
        return None


@pytest.fixture(scope="module")
def program() -> Program:
    """A quantized product, and a row kernel before and after it."""
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (16, 32)).astype(np.int8)
    nodes = [
        node("Softmax", "x", "r", axis=-1),
        node("QuantizeLinear", "r s", "q", output_dtype=3),
        node("DequantizeLinear", "q s", "d"),
        node("DequantizeLinear", "w s", "dw"),
        node("MatMul", "d dw", "y"),
        node("Softmax", "y", "o", axis=-1),
    ]
    graph = model(nodes, {"x": (4, 16)}, {"o": (4, 32)}, {"s": np.float32(0.125), "w": w})
    return partition(imported(graph))


def test_the_first_that_offers_gets_the_kernel_and_refusals_are_kept(program: Program) -> None:
    picky = Picky("matmul")
    packed = place_on(program, HOST, [picky, CpuBackend()])
    assert [question.split()[0] for question in picky.asked] == list(packed.placements)
    for name, placement in packed.placements.items():
        if "matmul" in name:
            assert (placement.device, placement.implementation, placement.refusals) == ("picky", "by hand", ())
        else:
            assert placement.device == packed.device_of(name) == CPU
            assert placement.refusals == (("picky", Refusal("not wanted", "ask another")),)
    assert not packed.products, "the product is not the CPU's"
    assert {segment.device for segment in packed.segments()} == {"picky", CPU}


def test_constants_lie_as_the_backend_wants_them(program: Program) -> None:
    packed = place_on(program, HOST, [CpuBackend()])
    (name,) = packed.products
    (call,) = (call for call in packed.program.calls if call.kernel == name)
    (plain_call,) = (call for call in program.calls if call.kernel == name)
    given = program.graph.given
    laid_out = evaluate(packed.constants[call.args[1]], given)
    plain = evaluate(program.graph.constants[plain_call.args[1]], given)
    assert laid_out.shape == packed.program.tensors[call.args[1]].shape == packed.products[name].packed_shape()
    others = [np.zeros(1) for _ in call.args[2:]]
    np.testing.assert_array_equal(packed.plain_inputs(name, [np.zeros(1), laid_out, *others])[1], plain)


def test_another_backend_reads_plain_constants(program: Program) -> None:
    packed = place_on(program, HOST, [Picky("matmul"), CpuBackend()])
    (call,) = (call for call in packed.program.calls if "matmul" in call.kernel)
    assert call == next(call for call in program.calls if "matmul" in call.kernel)


def test_a_kernel_that_all_refuse_is_named_with_what_they_said(program: Program) -> None:
    with pytest.raises(BuildError, match=r"kernel k\w+: expected a backend .* picky: not wanted ask another; add cpu"):
        place_on(program, HOST, [Picky("nothing")])


class TestRegistry:
    def test_the_cpu_is_there(self) -> None:
        assert backend_named(CPU).name == CPU
        assert backend_named(CPU).runtime_library() is None

    def test_an_unknown_one_is_refused_with_those_that_are_known(self, program: Program) -> None:
        target = TargetSpec("t", HOST.triple, HOST.cpu, HOST.features, backends=("vulcan", "cpu"))
        with pytest.raises(ConfigError, match="backend 'vulcan': expected one of cpu"):
            place(program, target)

    def test_two_of_one_name_are_refused(self) -> None:
        first = register_backend(Picky("a"))
        try:
            assert register_backend(first) is first
            with pytest.raises(ConfigError, match="backend 'picky': another is registered"):
                register_backend(Picky("b"))
        finally:
            forget_backend("picky")
