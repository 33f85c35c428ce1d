"""onnx's own evaluator on an exported graph, holding no tensor longer than something still reads it.

`onnx.reference.ReferenceEvaluator.run` keeps every result until the end: of a full-size step 60 GB. Its nodes are run
here one by one, as it does itself. What a local function of `tvm_flow.export.integer_function` computes it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tvm_flow.export.integer_function import program_of
from tvm_flow.numerics.tosa_operators import NumpyOperators

Array = npt.NDArray[Any]


def evaluate_graph(path: Path, inputs: Mapping[str, Array]) -> Array:
    """The one output of the graph ``path`` for ``inputs``."""
    (output,) = evaluate_outputs(path, inputs)
    return output


def evaluate_outputs(path: Path, inputs: Mapping[str, Array]) -> tuple[Array, ...]:
    """All outputs of the graph ``path`` for ``inputs``, in its order."""
    model = onnx.load(str(path))
    new_ops = [_operator(function) for function in model.functions]
    del model.functions[:]
    evaluator = ReferenceEvaluator(model, new_ops=new_ops)
    values: dict[str, Any] = {"": None, **evaluator.rt_inits_, **inputs}
    last = {name: index for index, node in enumerate(evaluator.rt_nodes_) for name in node.input}
    last |= dict.fromkeys(("", *evaluator.output_names), len(evaluator.rt_nodes_))
    for index, node in enumerate(evaluator.rt_nodes_):
        results = node.run(*(values[name] for name in node.input))
        values.update(zip(node.output, results, strict=False))
        for name in {*node.input, *node.output}:
            if last.get(name, index) <= index:
                values.pop(name, None)
    return tuple(np.asarray(values[name]) for name in evaluator.output_names)


def _operator(function: onnx.FunctionProto) -> type[OpRun]:
    """onnx's evaluator knows an operator by the class's name and domain."""
    program = program_of(function)

    def run(_self: OpRun, *inputs: Array) -> tuple[Array]:
        return (program.run(NumpyOperators(), inputs),)

    return type(function.name, (OpRun,), {"op_domain": function.domain, "_run": run})
