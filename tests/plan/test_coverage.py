"""What runs where is counted in work, and every refusal is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from tvm import relax

from tvm_flow.backends.base import Artifacts, CompileJob, Kernel, Offer
from tvm_flow.backends.cpu.backend import CpuBackend
from tvm_flow.backends.packed import PackedProgram, Refusal
from tvm_flow.backends.place import place_on
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.graph.lifted import bindings_of, op_name, tensor_var
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.plan.coverage import Work, coverage, coverage_lines, kernel_macs, require_coverage
from tvm_flow.target.spec import TargetSpec, load_target


@dataclass(frozen=True)
class Products:
    """A backend that takes what has a product in it, and only that."""

    name: str = "products"
    version: str = "1"

    def offers(self, kernel: Kernel, _target: TargetSpec) -> Offer | Refusal:
        if any(op_name(value) == "relax.matmul" for _, value in bindings_of(kernel.function)):
            return Offer("nothing real")
        return Refusal("it has no product", "give it one")

    def compile(self, job: CompileJob, folder: object) -> Artifacts:
        raise NotImplementedError

    def runtime_library(self) -> None:
        return None


@pytest.fixture(scope="module")
def packed(exported: Exported) -> PackedProgram:
    program = partition(import_graph(exported.graphs[0][0]))
    return place_on(program, load_target("host"), [Products(), CpuBackend()])


def test_the_work_of_both_sides_is_all_work(packed: PackedProgram) -> None:
    found = coverage(packed)
    assert set(found.devices) == {"products", "cpu"}
    assert found.total.calls == len(packed.program.calls)
    assert found.total.macs == sum(kernel_macs(packed.program.kernels[c.kernel]) for c in packed.program.calls)
    assert found.devices["cpu"].macs == 0 and found.accelerated == found.share("products") == 1.0


def test_what_was_refused_is_what_the_cpu_runs(packed: PackedProgram) -> None:
    found = coverage(packed)
    assert found.refused == {("products", Refusal("it has no product", "give it one")): found.devices["cpu"]}
    lines = list(coverage_lines("group0", found))
    assert lines[0].startswith(("group0: products runs 100.0% of the MACs: ", "group0: cpu runs 0.0% of the MACs: "))
    assert any(line.startswith("group0: products refused ") and "; give it one" in line for line in lines)
    assert f"{found.crossings} crossings, {found.crossing_bytes} bytes" in lines[-1]
    assert found.crossings > 0 and found.crossing_bytes > found.crossings


def test_the_cpu_alone_has_nothing_to_say(packed: PackedProgram) -> None:
    found = coverage(replace(packed, placements={}))
    assert not list(coverage_lines("group0", found)) and (found.crossings, found.accelerated) == (0, 0.0)


def test_too_little_coverage_is_an_error_that_says_what_was_refused(packed: PackedProgram) -> None:
    found = coverage(packed)
    require_coverage("group0", found, 1.0)
    half = replace(found, devices={"products": Work(1, 10, 1), "cpu": Work(1, 10, 1)})
    require_coverage("group0", half, 0.5)
    with pytest.raises(BuildError, match=r"at least 95\.0% .* got 50\.0%; .*products refused .*it has no product"):
        require_coverage("group0", half, 0.95)


def test_nothing_is_required_of_a_program_for_the_cpu(packed: PackedProgram) -> None:
    alone = coverage(replace(packed, placements={}))
    require_coverage("group0", alone, 0.0)
    with pytest.raises(BuildError, match="no backend but the CPU was asked"):
        require_coverage("group0", alone, 0.01)


def test_products_and_convolutions_are_counted() -> None:
    a, b = tensor_var("a", (2, 3, 5), "float32"), tensor_var("b", (5, 7), "float32")
    x, w = tensor_var("x", (1, 4, 6, 6), "float32"), tensor_var("w", (8, 4, 3, 3), "float32")
    for params, call, macs in (
        ([a, b], relax.op.matmul(a, b), 2 * 3 * 7 * 5),
        ([x, w], relax.op.nn.conv2d(x, w), 8 * 4 * 4 * 4 * 9),
        ([a], relax.op.exp(a), 0),
    ):
        block = relax.BlockBuilder()
        with block.function("f", params):
            with block.dataflow():
                out = block.emit_output(call)
            block.emit_func_output(out)
        assert kernel_macs(block.get()["f"]) == macs
