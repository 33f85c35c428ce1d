"""Which initializers of an ONNX graph can be imported without their values, and where the values lie.

An initializer is opaque when every node that reads it takes it as data, never as a shape, an axis or a constant that
decides what the node means: the operators of `DATA_ONLY`, whose importers never look at a value. Opaque initializers
become inputs of the graph before TVM sees it, so an imported structure cannot depend on their values: two graphs whose
files differ in opaque values alone import to the same module. Their values are views of the file that they lie in
(external data) or of the graph's own bytes; nothing is read before somebody looks at an element.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tvm_flow.errors import ImportGraphError
from tvm_flow.export.integer_function import DOMAIN
from tvm_flow.graph.constants import Array
from tvm_flow.importer.legal import require_range

DATA_ONLY = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "MatMul", "Add", "Sub", "Mul", "Div", "LayerNormalization"),
        *("Gemm", "Conv", "Transpose"),
    }
)
"""Operators none of whose inputs decides the structure of what they are imported to; each gives a new variable."""
_FUNCTION = ""
"""A local function of integers among them, by whatever name: it takes 16 bits, too."""
_DATA_TYPES = frozenset({TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32})


@dataclass
class ExternalFiles:
    """Maps of external data files; a tensor named twice, by whichever graph, is one array."""

    maps: dict[Path, memoryview] = field(default_factory=dict)
    arrays: dict[tuple[object, ...], Array] = field(default_factory=dict)

    def array(self, tensor: TensorProto, folder: Path) -> Array:
        """The read-only value of ``tensor``, whose place is relative to ``folder``.

        Raises ImportGraphError when its file is missing, too short or outside ``folder``, or the place is of another
        size than the tensor.
        """
        place = {entry.key: entry.value for entry in tensor.external_data}
        offset, shape = int(place.get("offset", 0)), tuple(tensor.dims)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        path = _inside(folder, place["location"], tensor.name)
        key = (path, offset, shape, dtype)
        count = int(np.prod(shape))
        size = count * dtype.itemsize
        if int(place.get("length", size)) != size:
            raise ImportGraphError(
                f"{tensor.name}: expected external data of {size} bytes for {dtype} {list(shape)}, the graph says "
                f"{place['length']}; export it again"
            )
        if key not in self.arrays:
            file = self._map(path)
            if not 0 <= offset <= len(file) - size:
                raise ImportGraphError(
                    f"{path}: expected {size} bytes of {tensor.name} at {offset}, the file has {len(file)}; export it "
                    "again"
                )
            self.arrays[key] = np.frombuffer(file, dtype, count, offset).reshape(shape)
        return self.arrays[key]

    def _map(self, path: Path) -> memoryview:
        if path not in self.maps:
            with path.open("rb") as stream:
                empty = path.stat().st_size == 0
                self.maps[path] = memoryview(b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        return self.maps[path]


def _inside(folder: Path, location: str, name: str) -> Path:
    """``location`` below ``folder``; raises ImportGraphError for one that leads out of it, by links or otherwise."""
    path, resolved = folder / location, (folder / location).resolve()
    if Path(location).is_absolute() or ".." in Path(location).parts or not resolved.is_relative_to(folder.resolve()):
        raise ImportGraphError(
            f"{name}: expected external data below the graph's folder, got {location!r}, which is {resolved}; copy the "
            "file there and name it by its path from the graph"
        )
    return path


@dataclass(frozen=True)
class SplitGraph:
    """``structure``: the graph with its opaque initializers as inputs after its own; ``values``: theirs, by name.

    ``skeleton`` is the sha256 of the whole graph without the bytes of those that lie in it; see `same_skeleton`.
    """

    structure: onnx.ModelProto
    inputs: tuple[str, ...]
    values: dict[str, Array]
    skeleton: bytes
    inside: frozenset[str]
    """Opaque initializers whose bytes lie in the graph itself."""


def split_values(model: onnx.ModelProto, folder: Path | None, files: ExternalFiles) -> SplitGraph:
    """Take the opaque initializers out of ``model``, which is changed; external data lies in ``folder``.

    Raises ImportGraphError when an external file is missing or too short, ValueError for a tensor without data.
    """
    graph = model.graph
    opaque = _opaque_names(graph)
    inside = frozenset(t.name for t in graph.initializer if t.name in opaque and t.HasField("raw_data"))
    bones = onnx.ModelProto()
    bones.CopyFrom(model)
    _take_bytes(bones, inside)
    skeleton = _digest(bones)
    initializers, names = list(graph.initializer), {tensor.name for tensor in graph.initializer}
    own = [_copied(value) for value in graph.input if value.name not in names]
    values: dict[str, Array] = {}
    kept, lifted = [], []
    for tensor in initializers:
        external = folder is not None and tensor.data_location == TensorProto.EXTERNAL
        require_range(tensor)
        value = files.array(tensor, folder) if external and folder is not None else None
        if tensor.name in opaque:
            values[tensor.name] = numpy_helper.to_array(tensor) if value is None else value
            lifted.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            kept.append(_copied(tensor) if value is None else numpy_helper.from_array(value, tensor.name))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.input[:]
    graph.input.extend([*own, *lifted])
    return SplitGraph(model, tuple(value.name for value in own), values, skeleton, inside)


def same_skeleton(model: onnx.ModelProto, known: SplitGraph) -> dict[str, Array] | None:
    """The values of ``model`` when it differs from the graph of ``known`` in opaque bytes alone, else None.

    External data counts by its place: equal places are the values of ``known`` themselves. ``model`` loses its bytes.
    Raises ValueError when there are too few or too many of them.
    """
    raw = _take_bytes(model, known.inside)
    if _digest(model) != known.skeleton:
        return None
    arrays = {
        name: np.frombuffer(data, known.values[name].dtype).reshape(known.values[name].shape)
        for name, data in raw.items()
    }
    return known.values | arrays


def _take_bytes(model: onnx.ModelProto, names: frozenset[str]) -> dict[str, bytes]:
    raw = {}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            raw[tensor.name] = tensor.raw_data
            tensor.ClearField("raw_data")
    return raw


def _digest(model: onnx.ModelProto) -> bytes:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).digest()


def _copied(message: Any) -> Any:
    """Clearing a repeated field frees its messages."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _opaque_names(graph: onnx.GraphProto) -> frozenset[str]:
    readers: Mapping[str, set[str]] = defaultdict(set)
    for node in graph.node:
        for name in node.input:
            readers[name].add(_FUNCTION if node.domain == DOMAIN else node.op_type)
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return frozenset()  # a branch may read any name from outside
    outputs = {value.name for value in graph.output}
    return frozenset(
        tensor.name
        for tensor in graph.initializer
        if _is_data(tensor.data_type, readers[tensor.name]) and tensor.name not in outputs
    )


def _is_data(kind: int, readers: set[str]) -> bool:
    if kind == TensorProto.INT16:
        return readers == {_FUNCTION}
    return kind in _DATA_TYPES and readers <= DATA_ONLY | {_FUNCTION}
