"""ONNX step graph to Relax: TVM's own importer, every initializer lifted to a parameter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model
from tvm.relax.frontend.onnx import from_onnx

from tvm_flow.errors import ImportGraphError
from tvm_flow.importer.constants import Given
from tvm_flow.importer.graph import LiftedGraph


def load_onnx(path: Path) -> LiftedGraph:
    """Read ``path`` and its external weight file; raises ImportGraphError when either is missing or damaged."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ImportGraphError(
            f"{path}: expected a readable ONNX graph with its weight file beside it, got: {error}; export it again"
        ) from error
    return import_onnx(model, str(path))


def import_onnx(model: onnx.ModelProto, name: str = "graph") -> LiftedGraph:
    """Import ``model``; all shapes must be static.

    Raises ImportGraphError with TVM's reason when an operator or shape is not supported.
    """
    try:
        module = from_onnx(model, keep_params_in_input=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ImportGraphError(f"{name}: TVM's ONNX importer refused it: {reason}; use supported operators") from error
    main = module["main"]
    count = int(main.attrs["num_input"])
    inputs = tuple(str(p.name) for p in main.params[:count])
    lifted = main.params[count:]
    values = {str(p.name): np.ascontiguousarray(v.numpy()) for p, v in zip(lifted, main.attrs["params"], strict=True)}
    return LiftedGraph(module, inputs, {key: Given(key) for key in values}, values)
