"""onnx's evaluator, node by node: the same numbers as its own loop, and no tensor kept longer than it is read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tvm_flow.check.onnx_evaluator import evaluate_graph
from tvm_flow.compile.step_build import golden_input
from tvm_flow.export import Exported


def test_the_same_numbers_as_onnx_itself(exported: Exported) -> None:
    golden, path = golden_input(exported), exported.graphs[1][0]
    inputs = {"z": golden.noise, "y": golden.cond.tokens, "mask": golden.cond.mask}
    (expected,) = ReferenceEvaluator(onnx.load(str(path))).run(None, inputs)
    np.testing.assert_array_equal(evaluate_graph(path, inputs), expected)


def test_what_nothing_reads_any_more_is_dropped(tmp_path: Path) -> None:
    """Twenty additions of a megabyte; an output that is read again and a missing input are the cases to get wrong."""
    length, size = 20, 1 << 18
    nodes = [helper.make_node("Add", [f"t{i}", "one"], [f"t{i + 1}"]) for i in range(length)]
    nodes.append(helper.make_node("Clip", [f"t{length}", "", "most"], ["unused"]))
    shape = [size]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"t{length}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32(value), name) for name, value in (("one", 1), ("most", 3))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, str(tmp_path / "chain.onnx"))
    tracemalloc.start()
    result = evaluate_graph(tmp_path / "chain.onnx", {"t0": np.zeros(size, np.float32)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result == length).all()
    assert peak < 8 * 4 * size, "the input, a few results on their way, not twenty"
