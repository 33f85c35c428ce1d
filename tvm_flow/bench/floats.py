"""``scripts/bench floats``: GMAC/s of a step's and a decoder's float products and convolutions on one core here.

    {"shape", "ours_gmacs", "peak_gmacs", "of_peak", "peers": {NAME: GMAC/s}}

All contenders read the same rows or images, their weights constant, one after another, ``rounds`` times over; each
one's time is its fastest round, in time of the processor, so that a neighbour's turn on the core does not count.
``peak_gmacs`` is that of the core's widest float instruction.

The line on stdout is the worst shape's: that of the smallest share of the peak. Peers that are not installed are left
out; the extra ``bench`` has OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tvm
from onnx import TensorProto, helper, numpy_helper

from tvm_flow.backends.cpu.convolution import Convolution, convolution, weight_layout
from tvm_flow.backends.cpu.float_product import float_product, tiled
from tvm_flow.backends.cpu.registers import registers_of
from tvm_flow.bench.contest import contest
from tvm_flow.profile.peak import FLOAT, instruction_meter
from tvm_flow.target.spec import detect_host

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FloatShape:
    """``x`` [M, K] times ``w`` [K, N], or images [1, C, H, W], padding included, and a weight [O, C, K, K]."""

    name: str
    x: tuple[int, ...]
    w: tuple[int, ...]

    @property
    def output(self) -> tuple[int, ...]:
        """Of the result."""
        if len(self.x) == 2:
            return (self.x[0], self.w[1])
        return (1, self.w[0], self.x[2] - self.w[2] + 1, self.x[3] - self.w[3] + 1)

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return prod(self.output) * (self.w[0] if len(self.x) == 2 else prod(self.w[1:]))

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.x))} {'x'.join(map(str, self.w))}"


SHAPES = (
    FloatShape("caption fc1", (120, 4096), (4096, 1152)),
    FloatShape("caption fc2", (120, 1152), (1152, 1152)),
    FloatShape("patches", (4096, 16), (16, 1152)),
    FloatShape("final", (4096, 1152), (1152, 32)),
    FloatShape("decoder", (1, 512, 34, 34), (512, 512, 3, 3)),
    FloatShape("decoder", (1, 256, 66, 66), (256, 256, 3, 3)),
    FloatShape("decoder", (1, 128, 130, 130), (128, 128, 3, 3)),
)
"""Those of STDiT-XL at 256 px with 120 tokens, and of the decoder of Open-Sora's v1.0 for one frame of as many."""


def ours(shape: FloatShape, x: Array, w: Array) -> Callable[[], object]:
    """The kernel of a step or a decoder, its weight packed."""
    host = detect_host()
    registers = registers_of(host.features)
    if len(x.shape) == 2:
        product = tiled((len(x),), w.shape[0], w.shape[1], registers)
        assert product is not None, "columns of all shapes come in vectors"
        function, packed = float_product("k", product), product.layout.pack(w)
    else:
        convolved = Convolution(x.shape, w.shape)
        layout = weight_layout(convolved, registers)
        function, packed = convolution("k", convolved, registers, layout), layout.pack(w)
    kernel = tvm.tirx.build(tvm.IRModule({"k": function}), target=host.tvm())["k"]
    read = [tvm.runtime.tensor(a) for a in (x, packed)]
    out = tvm.runtime.tensor(np.zeros(shape.output, np.float32))
    written = np.asarray(np.from_dlpack(out), np.float32)  # no copy, which would take as long as some products

    def run() -> Array:
        kernel(*read, out)
        return written

    return run


def torch_operator(_shape: FloatShape, x: Array, w: Array) -> Callable[[], object]:
    """torch's matmul or conv2d."""
    operator = torch.matmul if len(x.shape) == 2 else torch.nn.functional.conv2d
    left, right = torch.from_numpy(x), torch.from_numpy(w)
    return lambda: operator(left, right).numpy()


def _model(shape: FloatShape, w: Array) -> bytes:
    """An ONNX graph of one node whose weight is an initializer."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape.x), ("y", shape.output)))
    node = helper.make_node("MatMul" if len(shape.x) == 2 else "Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(w, "w")])
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


def onnxruntime_node(shape: FloatShape, x: Array, w: Array) -> Callable[[], object]:
    """The node with every optimisation; raises ImportError when it is not installed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_model(shape, w), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def openvino_node(shape: FloatShape, x: Array, w: Array) -> Callable[[], object]:
    """The node in float32; raises ImportError when it is not installed."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(BytesIO(_model(shape, w))), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer([x], share_inputs=True)[0]


CONTENDERS: dict[str, Callable[[FloatShape, Array, Array], Callable[[], object]]] = {
    "ours": ours,
    "torch": torch_operator,
    "onnxruntime": onnxruntime_node,
    "openvino": openvino_node,
}


def measure(shape: FloatShape, rounds: int) -> dict[str, float]:
    """GMAC/s of every contender that is installed, interleaved, and their agreement with ours."""
    rng = np.random.default_rng(shape.macs)
    x = rng.standard_normal(shape.x).astype(np.float32)
    w = (rng.standard_normal(shape.w) * (prod(shape.output) / shape.macs) ** 0.5).astype(np.float32)
    made = {name: partial(make, shape, x, w) for name, make in CONTENDERS.items()}
    return contest(made, shape.macs, rounds)


def main(arguments: list[str]) -> None:
    """Parse, measure every shape, print the worst."""
    parser = argparse.ArgumentParser(prog="bench floats", description="GMAC/s of float products on this core")
    parser.add_argument("--rounds", type=int, default=15, help="times each contender runs (default: 15)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    features = detect_host().features
    meter = instruction_meter(next(name for name in FLOAT if name in features))
    found: list[dict[str, Any]] = []
    for shape in SHAPES:
        peak, gmacs = max(meter() for _ in range(5)), measure(shape, options.rounds)
        mine = gmacs.pop("ours")
        line = {"shape": str(shape), "ours_gmacs": mine, "peak_gmacs": round(peak, 1), "of_peak": round(mine / peak, 2)}
        found.append(line | {"peers": gmacs})
        text = " ".join(f"{name} {speed:.1f}" for name, speed in gmacs.items())
        print(f"{shape!s:>36}: ours {mine:.1f} {text} | peak {peak:.1f} | of peak {mine / peak:.2f}", file=sys.stderr)
    print(json.dumps(min(found, key=lambda each: float(each["of_peak"]))))
