"""Products of int8 matrices by our kernel, onnxruntime and torch, each ready to run on one thread.

The peers run as fast as they can: weights constant, so that they may pack them, and every optimisation on. They are
peers for speed; what is exact is decided by exact integers alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import tvm
from onnx import TensorProto, helper, numpy_helper

from tvm_flow.backends.cpu import Isa
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.graph.constants import RULES
from tvm_flow.target.spec import detect_host

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Contender:
    """One way to multiply: ``run`` does it once; ``result`` runs it and gives X W in int32, or is None if rounded."""

    name: str
    rows: int
    run: Callable[[], object]
    result: Callable[[], Array] | None


def ours(x: Array, w: Array, isa: Isa) -> Contender:
    """Our kernel with its default schedule."""
    (m, k), n = x.shape, w.shape[1]
    kernel = tvm.tirx.build(tvm.IRModule({"g": gemm("g", m, k, n, isa)}), target=detect_host().tvm())["g"]
    tensors = [tvm.runtime.tensor(a) for a in (x, RULES["pack_columns"](w, isa.columns, isa.depth))]
    out = tvm.runtime.tensor(np.zeros((m, n), np.int32))

    def result() -> Array:
        kernel(*tensors, out)
        return np.asarray(out.numpy())

    return Contender("ours", m, lambda: kernel(*tensors, out), result)


def onnxruntime_product(x: Array, w: Array, signed: bool) -> Contender | None:
    """MatMulInteger of u8 (x + 128, zero point 128) or s8 rows with s8 weights; None when it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    rows, zero = (x, np.int8(0)) if signed else (_unsigned(x), np.uint8(128))
    kind = TensorProto.INT8 if signed else TensorProto.UINT8
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (x.shape[0], w.shape[1]))],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.array(zero), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def result() -> Array:
        return np.asarray(session.run(None, {"x": rows})[0])

    return Contender(f"onnxruntime_{'s8' if signed else 'u8'}s8", len(x), result, result)


def torch_product(x: Array, w: Array) -> Contender:
    """torch._int_mm: int8 in, int32 out."""
    left, right = torch.from_numpy(x), torch.from_numpy(w)

    def result() -> Array:
        return np.asarray(torch._int_mm(left, right).numpy())

    return Contender("torch_int_mm", len(x), result, result)


def torch_linear(x: Array, w: Array) -> Contender | None:
    """quantized::linear with packed weights, which rounds to 8 bits; None when torch has no x86 engine."""
    if "x86" not in torch.backends.quantized.supported_engines:
        return None
    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still the fastest that torch has
        weights = torch._make_per_tensor_quantized_tensor(torch.from_numpy(w.T.copy()), 1.0, 0)
        rows = torch._make_per_tensor_quantized_tensor(torch.from_numpy(_unsigned(x)), 1.0, 128)
    packed = torch.ops.quantized.linear_prepack(weights, None)

    def run() -> object:
        return torch.ops.quantized.linear(rows, packed, 1e4, 128)

    return Contender("torch_x86", len(x), run, None)


def _unsigned(x: Array) -> Array:
    return np.asarray(x.view(np.uint8) ^ np.uint8(128))
