"""ONNX step graph to Relax: TVM's own importer, every initializer lifted to a parameter.

Opaque initializers (`tvm_flow.importer.initializers`) are hidden from TVM, which so neither copies weights nor can
look at a value that differs from step to step.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from onnx import numpy_helper
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

from tvm_flow.errors import ImportGraphError
from tvm_flow.export.integer_function import program_of
from tvm_flow.graph.constants import Array, Given
from tvm_flow.graph.integers import integers_call
from tvm_flow.graph.lifted import BlockBuilder, LiftedGraph
from tvm_flow.graph.names import quote_names
from tvm_flow.importer.initializers import ExternalFiles, SplitGraph, same_skeleton, split_values
from tvm_flow.importer.legal import opset_of


def read_onnx(path: Path, files: ExternalFiles | None = None) -> SplitGraph:
    """The structure of ``path`` and views of its values; ``files`` keeps the maps that several graphs share.

    Raises ImportGraphError when the graph or its weight file is missing or damaged.
    """
    with _readable(path):
        return split_values(_parse(path), path.parent, ExternalFiles() if files is None else files)


def read_like(path: Path, known: SplitGraph) -> dict[str, Array] | None:
    """The values of ``path`` when it is the graph of ``known``, of the same folder, with other values; else None.

    Raises ImportGraphError as `read_onnx`.
    """
    with _readable(path):
        return same_skeleton(_parse(path), known)


def _parse(path: Path) -> onnx.ModelProto:
    return _own_names(_constants_as_initializers(onnx.load(str(path), load_external_data=False)))


def _own_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, changed: no name of it can be one that the flow makes up."""
    quote_names(model.graph)
    return model


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ImportGraphError(
            f"{path}: expected a readable ONNX graph with its weight file beside it, got: {error}; export it again"
        ) from error


def load_onnx(path: Path) -> LiftedGraph:
    """`read_onnx` and `import_split` of ``path``, with their errors."""
    return import_split(read_onnx(path), str(path))


def import_onnx(model: onnx.ModelProto, name: str = "graph") -> LiftedGraph:
    """Import ``model``, whose initializers hold their data; ``model`` stays as it is. Errors as `import_split`."""
    return import_split(split_onnx(model), name)


def split_onnx(model: onnx.ModelProto) -> SplitGraph:
    """`read_onnx` of ``model``, whose initializers hold their data, and which stays as it is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(_constants_as_initializers(model))
    return split_values(_own_names(copy), None, ExternalFiles())


def import_split(split: SplitGraph, name: str = "graph") -> LiftedGraph:
    """Import the graph that ``split`` took apart; all shapes must be static.

    Raises ImportGraphError with TVM's reason when an operator or shape is not supported.
    """
    try:
        # TVM prints what it raises, and warns of names that it does not change.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = _from_onnx(split.structure)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ImportGraphError(f"{name}: TVM's ONNX importer refused it: {reason}; use supported operators") from error
    main = module["main"]
    lifted = main.params[int(main.attrs["num_input"]) :]
    arrays = main.attrs["params"] if lifted else []
    # Copied with their shape: ascontiguousarray would make vectors of scalars.
    read = {str(p.name): np.array(v.numpy(), order="C") for p, v in zip(lifted, arrays, strict=True)}
    values = {**split.values, **read}
    return LiftedGraph(module, split.inputs, {key: Given(key) for key in values}, values)


def _from_onnx(model: onnx.ModelProto) -> tvm.IRModule:
    """As TVM's function of that name, with a builder that ends in silence."""
    importer = _Importer({}, "float32", keep_params_in_input=True, sanitize=False)
    importer.functions = {function.name: function for function in model.functions}
    importer.bb = BlockBuilder()
    return importer.from_onnx(model.graph, opset_of(model))


class _Importer(ONNXGraphImporter):  # type: ignore[misc]  # TVM has no types
    """TVM's, which knows no local functions: each of `tvm_flow.export.integer_function` is one call."""

    functions: dict[str, onnx.FunctionProto]

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        own = onnx.GraphProto()
        own.node.extend(node for node in graph.node if node.op_type not in self.functions)
        super()._check_for_unsupported_ops(own)

    def _convert_operator(self, op_name: str, inputs: list[Any], attrs: dict[str, Any], opset: int) -> Any:
        if op_name not in self.functions:
            return super()._convert_operator(op_name, inputs, attrs, opset)
        return self.bb.normalize(integers_call(program_of(self.functions[op_name]), list(inputs)))


def _constants_as_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constant nodes say the same as initializers; only the latter are lifted out by TVM's importer."""
    constants = [node for node in model.graph.node if node.op_type == "Constant" and _value(node) is not None]
    if not constants:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(node for node in model.graph.node if node.op_type != "Constant" or _value(node) is None)
    result.graph.initializer.extend(numpy_helper.from_array(_value(node), node.output[0]) for node in constants)
    return result


def _value(node: onnx.NodeProto) -> Any:
    """The array of a Constant node; None for strings and sparse tensors."""
    attribute = node.attribute[0]
    if attribute.name == "value" and attribute.t.data_type != onnx.TensorProto.STRING:
        return numpy_helper.to_array(attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.array(value, types[attribute.name]) if attribute.name in types else None
