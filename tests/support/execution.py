"""Runs a lowered graph on this machine, each kernel compared with the reference on the kernel's own inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import tvm
from onnx import ModelProto

from tvm_flow.backends.cpu import Isa, choose_isa
from tvm_flow.backends.cpu.codegen import scheduled_kernels
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.backends.place import pack_weights
from tvm_flow.graph.constants import evaluate
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.importer.load import split_onnx
from tvm_flow.importer.whole import import_whole
from tvm_flow.lower.partition import partition
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.reference import Rounded, Value, execute
from tvm_flow.target.spec import TargetSpec, detect_host

Array = np.ndarray[Any, Any]
HOST: TargetSpec = detect_host()


@dataclass
class Seen:
    """What a run produced: every tensor by name, and the codes that differ from the reference near a tie."""

    tensors: dict[str, Array]
    output: Array
    near_ties: int
    calls: int


def imported(model: ModelProto) -> LiftedGraph:
    return import_whole(split_onnx(model))


def lowered(graph: LiftedGraph, isa: Isa | None = None) -> PackedProgram:
    return pack_weights(partition(graph), isa or choose_isa(HOST.features))


def compile_functions(functions: dict[str, Any]) -> Any:
    return tvm.tirx.build(tvm.IRModule(functions), target=HOST.tvm())


def call_kernel(module: Any, name: str, inputs: list[Array], shape: tuple[int, ...], dtype: str) -> Array:
    """Output of kernel ``name``; it starts from garbage, so that an element left out shows."""
    out = tvm.runtime.tensor(np.full(shape, 77, dtype))
    module[name](*(tvm.runtime.tensor(np.array(a, order="C")) for a in inputs), out)
    return np.asarray(out.numpy())


def allocated(function: Any) -> list[tuple[int, str]]:
    """Elements and type of every buffer that a scheduled function needs at a time."""
    transform = tvm.s_tir.transform
    module = transform.LowerInitBlock()(tvm.IRModule({"f": function}))
    module = transform.ConvertBlocksToOpaque()(transform.PlanAndUpdateBufferAllocationLocation()(module))
    module = transform.CompactBufferAllocation()(module)
    text = re.sub(r"T\.int64\((\d+)\)", r"\1", str(module["f"]))
    found = re.findall(r"alloc_buffer\(\(([\d, ]+)\)(?:, \"(\w+)\")?", text)
    return [(int(np.prod([int(e) for e in re.findall(r"\d+", shape)])), dtype or "float32") for shape, dtype in found]


def reference_output(graph: LiftedGraph, feeds: dict[str, Array]) -> Value:
    """The whole graph by the reference."""
    arrays = [feeds[name] for name in graph.inputs]
    arrays += [evaluate(constant, graph.given) for constant in graph.constants.values()]
    return execute(graph.module["main"], arrays)


def run_checked(packed: PackedProgram, feeds: dict[str, Array], module: Any = None) -> Seen:
    """Compile and run every kernel in order; raises AssertionError where one leaves the reference's bounds."""
    program = packed.program
    module = module or compile_functions(scheduled_kernels(packed))
    tensors = feeds | {name: evaluate(c, program.graph.given) for name, c in packed.constants.items()}
    ties = 0
    for call in program.calls:
        inputs, spec = [tensors[name] for name in call.args], program.tensors[call.output]
        got = call_kernel(module, call.kernel, inputs, spec.shape, spec.dtype)
        ties += compare(packed.expected(call.kernel, inputs), got, call.kernel)
        tensors[call.output] = got
    return Seen(tensors, tensors[program.output], ties, len(program.calls))


def compare(expected: Value, got: Array, name: str = "") -> int:
    """Assert that ``got`` is what the reference allows; returns how many codes differ near a tie."""
    if isinstance(expected, Bounded):
        assert got.dtype == np.float32 and got.shape == expected.value.shape, name
        with np.errstate(invalid="ignore"):
            distance = np.abs(got.astype(np.float64) - expected.value)
        # NaN and infinities are what they are, and have no distance.
        same = (got == expected.value) | (np.isnan(got) & np.isnan(expected.value))
        right = same | (distance <= expected.error)
        assert np.all(right), f"{name}: off by {distance.max()}, bound {expected.error.max()}"
        return 0
    assert got.dtype == expected.dtype and got.shape == expected.shape, name
    distance = np.abs(got.astype(np.int64) - np.asarray(expected, np.int64))
    allowed = np.minimum(expected.doubt, 1.0) if isinstance(expected, Rounded) else 0.0
    assert np.all(distance <= allowed), f"{name}: off by {distance.max()} where the reference is certain"
    return int(np.count_nonzero(distance))


def value_of(expected: Value) -> Array:
    return expected.value if isinstance(expected, Bounded) else np.asarray(expected)


def onnxruntime_outputs(
    model: ModelProto | str, feeds: dict[str, Array], names: list[str] | None = None
) -> list[Array]:
    """onnxruntime with every optimisation off: its fused int8 kernels saturate, and are no oracle."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return list(session.run(names, feeds))


def require_like_onnxruntime(model: ModelProto, feeds: dict[str, Array], graph: LiftedGraph, got: Array) -> None:
    """Assert that ``got`` of a float graph is as far from onnxruntime's as two evaluations in single precision can be.

    The reference bounds the distance of one from the exact result, by running error analysis of the same operators
    (`tvm_flow.numerics.bounded`, exp to 4 units of 2^-24); two are at most twice that apart.
    """
    expected, want = reference_output(graph, feeds), onnxruntime_outputs(model, feeds)[0]
    assert isinstance(expected, Bounded) and np.isfinite(expected.error).all()
    assert got.shape == want.shape
    distance = np.abs(got.astype(np.float64) - want)
    assert np.all(distance <= 2 * expected.error), f"off by {distance.max()}, bound {2 * expected.error.max()}"
