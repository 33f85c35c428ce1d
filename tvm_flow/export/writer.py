"""Builds one ONNX graph: nodes in order, constants of this step inside it, shared ones by reference.

Shared constants live in a `WeightFile`: every graph names the same bytes of the same file (ONNX external data), so N
steps store them once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import FunctionProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tvm_flow.artifact import write_bytes
from tvm_flow.errors import ExportError
from tvm_flow.export.integer_function import DOMAIN, TOSA, VERSION, function_of, value_info
from tvm_flow.numerics.integer_program import IntegerProgram

OPSET = 21
"""The first with ``output_dtype``, so that a symmetric graph needs no zero-point tensors."""
IR_VERSION = 10
ALIGNMENT = 64


@dataclass
class WeightFile:
    """The file ``name`` that all graphs share, written to ``stream`` array by array, each at a multiple of `ALIGNMENT`.

    Of an array that is written only its place and hash are kept.
    """

    name: str
    stream: BinaryIO = field(default_factory=BytesIO)
    size: int = 0
    entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def tensor(self, name: str, value: npt.NDArray[Any]) -> TensorProto:
        """External-data initializer for ``value``; stored on first use.

        Raises ExportError when another value was stored under the same name.
        """
        raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        digest = hashlib.sha256(f"{value.dtype} {value.shape}".encode())
        digest.update(raw)
        if name not in self.entries:
            self.size += self.stream.write(bytes(-self.size % ALIGNMENT))
            self.entries[name] = (self.size, digest.digest())
            self.size += self.stream.write(raw)
        offset, stored = self.entries[name]
        if stored != digest.digest():
            raise ExportError(f"shared weight {name!r}: expected one value for all steps, got two; this is a bug")
        tensor = TensorProto(
            name=name,
            dims=value.shape,
            data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        for key, text in (("location", self.name), ("offset", offset), ("length", value.nbytes)):
            tensor.external_data.add(key=key, value=str(text))
        return tensor

    def write(self, folder: Path) -> None:
        """Write the file into ``folder``, for a stream in memory."""
        assert isinstance(self.stream, BytesIO), "a stream of its own is a file already"
        write_bytes(folder / self.name, self.stream.getvalue())


@dataclass
class GraphWriter:
    """One graph under construction; methods return the name of the tensor they produce."""

    weights: WeightFile
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    functions: dict[str, FunctionProto] = field(default_factory=dict)
    """By the text of their programs."""
    infos: list[ValueInfoProto] = field(default_factory=list)

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node with one output."""
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def call(self, kind: str, program: IntegerProgram, inputs: Sequence[str]) -> str:
        """Append a node that runs ``program`` on ``inputs``; equal programs are one function, named by ``kind``."""
        text = program.to_text()
        if text not in self.functions:
            self.functions[text] = function_of(program, f"{kind}{len(self.functions)}", OPSET)
        name = self.functions[text].name
        output = f"{name}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(name, list(inputs), [output], name=output, domain=DOMAIN))
        self.infos.append(value_info(output, program.result))
        return output

    def shared(self, name: str, value: npt.NDArray[Any]) -> str:
        """A constant of all steps."""
        if name not in self.initializers:
            self.initializers[name] = self.weights.tensor(name, value)
        return name

    def own(self, name: str, value: npt.NDArray[Any]) -> str:
        """A constant of this step and branch."""
        # Not ascontiguousarray: it would make a vector of a scalar, and so a scale per channel.
        self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        """An int64 vector, for shapes and axes."""
        name = "i64_" + "_".join(str(v).replace("-", "m") for v in values)
        self.initializers.setdefault(name, numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def reshape(self, x: str, *shape: int) -> str:
        """``x`` with another shape."""
        return self.op("Reshape", [x, self.integers(*shape)])

    def transpose(self, x: str, *perm: int) -> str:
        """``x`` with permuted axes."""
        return self.op("Transpose", [x], perm=perm)

    def slice_last(self, x: str, start: int, stop: int) -> str:
        """``x[..., start:stop]``."""
        return self.op("Slice", [x, self.integers(start), self.integers(stop), self.integers(-1)])

    def cut(self, x: str, shape: Sequence[int]) -> str:
        """The first ``shape`` elements of every axis of ``x``."""
        axes = range(len(shape))
        return self.op("Slice", [x, self.integers(*(0 for _ in axes)), self.integers(*shape), self.integers(*axes)])

    def model(
        self, inputs: Mapping[str, Sequence[int]], output: str, shape: Sequence[int], result: str
    ) -> onnx.ModelProto:
        """The finished model; ``result`` becomes the name of tensor ``output``."""
        self.nodes.append(helper.make_node("Identity", [output], [result], name=result))
        graph = helper.make_graph(
            self.nodes,
            "step",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, list(shape))],
            list(self.initializers.values()),
            value_info=self.infos,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if self.functions:
            opsets += [helper.make_opsetid(domain, VERSION) for domain in (DOMAIN, TOSA)]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="tvm-flow",
            functions=list(self.functions.values()),
        )
