"""``scripts/bench attention``: GMAC/s of float attention on one core of this machine, for STDiT-XL's shapes.

    {"shape", "ours_gmacs", "ours_int8_gmacs", "peak_gmacs", "peers": {NAME: GMAC/s}}

All contenders read the same Q, K and V [batch, heads, rows, 72], contiguous as each likes it best, one after another,
``rounds`` times over, and leave their output where they computed it: nothing is copied for the bench, which took a
quarter of ours at 16 keys. Each one's time is its fastest round, in time of the processor, so that a neighbour's
turn on the core does not count. ``peak_gmacs`` is that of the core's widest float instruction.

    gmacs = 2 * batch * heads * rows * keys * 72 / seconds / 1e9

``ours_int8_gmacs`` is that of our kernel of codes, which makes them of the same floats first: see
`tvm_flow.bench.code_graph`.

The line on stdout is the worst shape's: that of the smallest ours / fastest peer. Peers that are not installed are left
out; the extra ``bench`` has OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tvm
from onnx import TensorProto, helper
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu.code_dots import dot_of
from tvm_flow.backends.cpu.codegen import code_kernel, float_kernel
from tvm_flow.backends.cpu.registers import registers_of
from tvm_flow.bench.code_graph import code_attention, parameters_of
from tvm_flow.bench.contest import contest
from tvm_flow.graph.types import PrimFunc, Relax
from tvm_flow.profile.peak import FLOAT, instruction_meter
from tvm_flow.target.spec import detect_host

Array = npt.NDArray[np.float32]
CHANNELS = 72
INT8 = "ours_int8"
CODES_AGREE = 0.2
"""Largest difference of its outputs, which are near 1: five steps of V's codes, chosen to find a kernel that computes
something else, not derived. What it should compute is held bit for bit by tests/backends/cpu/test_code_streaming.py."""


@dataclass(frozen=True)
class AttentionShape:
    """``batch`` x ``heads`` attentions of ``rows`` rows to ``keys`` keys."""

    name: str
    batch: int
    heads: int
    rows: int
    keys: int

    @property
    def macs(self) -> int:
        """Of both products."""
        return 2 * self.batch * self.heads * self.rows * self.keys * CHANNELS

    def __str__(self) -> str:
        return f"{self.name} {self.batch}x{self.heads}x{self.rows}x{self.keys}"


SHAPES = (
    AttentionShape("spatial", 2, 16, 256, 256),
    AttentionShape("spatial", 1, 4, 1024, 1024),
    AttentionShape("temporal", 64, 16, 16, 16),
    AttentionShape("cross", 1, 16, 1024, 120),
    AttentionShape("cross", 1, 16, 1024, 300),
)
"""A part of each shape of a step at 256 and 512 px, enough for some milliseconds."""


def attention_function(shape: AttentionShape) -> Relax:
    """softmax(Q K^T) V as a step graph has it; K is transposed."""
    sizes = {"q": (shape.rows, CHANNELS), "k": (CHANNELS, shape.keys), "v": (shape.keys, CHANNELS)}
    p = {
        name: relax.Var(name, relax.TensorType([shape.batch, shape.heads, *size], "float32"))
        for name, size in sizes.items()
    }
    block = relax.BlockBuilder()
    emit = block.emit
    with block.function("main", list(p.values())):
        with block.dataflow():
            scores = emit(R.matmul(p["q"], p["k"]))
            power = emit(R.exp(emit(R.subtract(scores, emit(R.max(scores, axis=[-1], keepdims=True))))))
            weights = emit(R.divide(power, emit(R.sum(power, axis=[-1], keepdims=True))))
            output = block.emit_output(R.matmul(weights, p["v"]))
        block.emit_func_output(output)
    return block.get()["main"]


def ours(shape: AttentionShape, q: Array, k: Array, v: Array) -> Callable[[], object]:
    """The kernel of a step."""
    function = float_kernel("a", attention_function(shape), registers_of(detect_host().features))
    return _running(function, [q, k.transpose(0, 1, 3, 2), v])


def ours_int8(shape: AttentionShape, q: Array, k: Array, v: Array) -> Callable[[], object]:
    """The kernel of a step whose recipe has ``attention: int8``."""
    function = code_attention(shape.batch, shape.heads, shape.rows, CHANNELS, shape.keys)
    kernel = code_kernel("a", function, dot_of(detect_host().features))
    return _running(kernel, [q, k.transpose(0, 1, 3, 2), v, *parameters_of(q, k, v)])


def _running(function: PrimFunc, arguments: Sequence[npt.NDArray[np.generic]]) -> Callable[[], object]:
    """``function`` on ``arguments``, of which the first has its output's shape."""
    kernel = tvm.tirx.build(tvm.IRModule({"a": function}), target=detect_host().tvm())["a"]
    read = [tvm.runtime.tensor(np.array(a, order="C")) for a in arguments]
    out = tvm.runtime.tensor(np.zeros_like(arguments[0]))
    seen: Array = np.asarray(np.from_dlpack(out), np.float32)  # the same memory

    def run() -> Array:
        kernel(*read, out)
        return seen

    return run


def torch_sdpa(_shape: AttentionShape, q: Array, k: Array, v: Array) -> Callable[[], object]:
    """torch's own fused kernel."""
    left, keys, values = (torch.from_numpy(a) for a in (q, k, v))
    return lambda: torch.nn.functional.scaled_dot_product_attention(left, keys, values, scale=1.0).numpy()


def _model(shape: AttentionShape) -> Any:
    """An ONNX graph of q, k transposed, and v."""
    sizes = {"q": (shape.rows, CHANNELS), "k": (CHANNELS, shape.keys), "v": (shape.keys, CHANNELS)}
    infos = {
        n: helper.make_tensor_value_info(n, TensorProto.FLOAT, (shape.batch, shape.heads, *s)) for n, s in sizes.items()
    }
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, (shape.batch, shape.heads, shape.rows, CHANNELS))
    nodes = [
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "attention", list(infos.values()), [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def onnxruntime_graph(shape: AttentionShape, q: Array, k: Array, v: Array) -> Callable[[], object]:
    """The three nodes with every optimisation; raises ImportError when it is not installed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = _model(shape).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, value in {"q": q, "k": np.ascontiguousarray(k.transpose(0, 1, 3, 2)), "v": v}.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    out = np.zeros_like(q)
    binding.bind_output("out", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def run() -> Array:
        session.run_with_iobinding(binding)
        return out

    return run


def openvino_sdpa(_shape: AttentionShape, q: Array, k: Array, v: Array) -> Callable[[], object]:
    """OpenVINO's own operator in float32; raises ImportError when it is not installed."""
    import openvino
    from openvino import opset13

    inputs = [opset13.parameter(list(a.shape), np.float32) for a in (q, k, v)]
    scale = opset13.constant(np.float32(1.0))
    node = opset13.scaled_dot_product_attention(*inputs, opset13.constant(np.zeros((), np.float32)), scale)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(openvino.Model([node], inputs), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer([q, k, v], share_inputs=True, share_outputs=True)[0]


CONTENDERS: dict[str, Callable[[AttentionShape, Array, Array, Array], Callable[[], object]]] = {
    "ours": ours,
    INT8: ours_int8,
    "torch": torch_sdpa,
    "onnxruntime": onnxruntime_graph,
    "openvino": openvino_sdpa,
}


def measure(shape: AttentionShape, rounds: int) -> dict[str, float]:
    """GMAC/s of every contender that is installed, interleaved, and their agreement with ours."""
    rng = np.random.default_rng(shape.macs)
    q = (rng.standard_normal((shape.batch, shape.heads, shape.rows, CHANNELS)) / CHANNELS**0.5).astype(np.float32)
    k, v = (rng.standard_normal((shape.batch, shape.heads, shape.keys, CHANNELS)).astype(np.float32) for _ in range(2))
    made = {name: partial(make, shape, q, k, v) for name, make in CONTENDERS.items()}
    return contest(made, shape.macs, rounds, {INT8: CODES_AGREE})


def main(arguments: list[str]) -> None:
    """Parse, measure every shape, print the worst."""
    parser = argparse.ArgumentParser(prog="bench attention", description="GMAC/s of float attention on this core")
    parser.add_argument("--rounds", type=int, default=15, help="times each contender runs (default: 15)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    features = detect_host().features
    meter = instruction_meter(next(name for name in FLOAT if name in features))
    found = []
    for shape in SHAPES:
        peak, gmacs = max(meter() for _ in range(5)), measure(shape, options.rounds)
        mine, codes = gmacs.pop("ours"), gmacs.pop(INT8)
        line = {"shape": str(shape), "ours_gmacs": mine, "ours_int8_gmacs": codes, "peak_gmacs": round(peak, 1)}
        found.append({**line, "peers": gmacs})
        text = " ".join(f"{name} {speed:.1f}" for name, speed in gmacs.items())
        print(
            f"{shape!s:>24}: ours {mine:.1f} int8 {codes:.1f} {text} | peak {peak:.1f} | of peak {mine / peak:.2f}",
            file=sys.stderr,
        )
    print(json.dumps(min(found, key=_ratio)))


def _ratio(line: dict[str, Any]) -> float:
    return float(line["ours_gmacs"] / max(line["peers"].values()))
