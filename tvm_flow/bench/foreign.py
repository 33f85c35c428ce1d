"""Executed AArch64 instructions of onnxruntime's product of the same int8 matrices: MatMulInteger, int32 out.

This is the like of our kernel: int8 X times constant int8 W, which onnxruntime packs when the session is made, to exact
int32; neither side dequantizes or requantizes. The result is compared with exact integers, so a miscalled function of
the C interface cannot pass for a fast one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper, save

from tvm_flow.bench.foreign_run import EmulatedCore, Output, run_foreign
from tvm_flow.bench.shapes import Shape
from tvm_flow.bench.wheel import CACHE
from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder


def onnxruntime_instructions_per_mac(core: EmulatedCore, shape: Shape, cache: Path = CACHE) -> float:
    """Of the second run of ``shape``'s product on ``core``.

    Raises ConfigError when onnxruntime or the system's libraries cannot be had, BuildError when the program fails or
    its product is not exact.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (shape.m, shape.k)).astype(np.int8)
    w = rng.integers(-127, 128, (shape.k, shape.n)).astype(np.int8)
    with temporary_folder("product") as folder:
        model = folder / "model.onnx"
        write_product(model, shape, w)
        count, got = run_foreign(model, {"x": x}, Output("y", (shape.m, shape.n), "int32"), core, cache)
    # float64 sums of int8 products are exact up to 2^53
    if not np.array_equal(got, (x.astype(np.float64) @ w.astype(np.float64)).astype(np.int32)):
        raise BuildError(f"onnxruntime's product {shape} on {core.qemu_cpu}: expected exact int32 sums, got others")
    return count / shape.macs


def write_product(path: Path, shape: Shape, w: npt.NDArray[np.int8]) -> None:
    """An ONNX model y = MatMulInteger(x, ``w``) with ``w`` [K, N] constant."""
    inside = helper.make_tensor_value_info("x", TensorProto.INT8, (shape.m, shape.k))
    out = helper.make_tensor_value_info("y", TensorProto.INT32, (shape.m, shape.n))
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [inside], [out], [numpy_helper.from_array(w, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
