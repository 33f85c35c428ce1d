"""Step graphs of one structure, built once: steps and branches differ in the bytes of a few initializers alone.

What a graph is made of depends on the step only through the layers that the recipe keeps in float there; everything
else that depends on it is the value of an initializer: a folded vector, a bias, a scale, a zero point. So a graph is
built once for every set of float layers, and the others are that graph with the values of `own_value`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from tvm_flow.errors import ExportError
from tvm_flow.export.channels import channel_order
from tvm_flow.export.code_attention import OPERANDS, operand_scale
from tvm_flow.export.graph import step_graph
from tvm_flow.export.integer_blocks import RecordedBlocks
from tvm_flow.export.writer import WeightFile
from tvm_flow.quantize.quantized import QuantizedModel

Structure = tuple[bool, ...]


@dataclass
class StepTemplates:
    """The graphs of ``model``; `add` writes what they share to ``weights``, `graph` needs it no more.

    ``first`` is the first step of every structure.
    """

    model: QuantizedModel
    weights: WeightFile
    built: dict[Structure, onnx.ModelProto] = field(default_factory=dict)
    first: dict[Structure, int] = field(default_factory=dict)
    owned: dict[Structure, dict[str, onnx.TensorProto]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.integers = RecordedBlocks(self.model) if self.model.recipe.between == "integer" else None

    def structure(self, step: int) -> Structure:
        """Which layers stay in float at ``step``."""
        return tuple(bool(layer.float_steps[step]) for layer in self.model.layers.values())

    def add(self, step: int) -> None:
        """Build the graph of ``step``'s structure if there is none; raises ExportError as `step_graph` does."""
        key = self.structure(step)
        if key not in self.built:
            self.first[key], self.built[key] = step, step_graph(self.model, step, 0, self.weights)
            self.owned[key] = {t.name: t for t in self.built[key].graph.initializer if _is_own(t)}

    def graph(self, step: int, branch: int) -> onnx.ModelProto:
        """The graph of ``step``, which was added, and ``branch``; the next call changes it."""
        key = self.structure(step)
        for name, tensor in self.owned[key].items():
            tensor.raw_data = self._value(name, step, branch).tobytes()
        return self.built[key]

    def _value(self, name: str, step: int, branch: int) -> npt.NDArray[Any]:
        if self.integers is not None and self.integers.knows(name):
            return self.integers.value(name, step, branch)
        return own_value(self.model, name, step, branch)


def _is_own(tensor: onnx.TensorProto) -> bool:
    """What is shared lies in the weight file, and the shapes and axes of a structure are its int64 numbers."""
    return bool(tensor.data_location != TensorProto.EXTERNAL and tensor.data_type != TensorProto.INT64)


def own_value(model: QuantizedModel, name: str, step: int, branch: int) -> npt.NDArray[Any]:
    """The value of a step graph's own initializer ``name``; raises ExportError for a name that has none."""
    if name in model.folds:
        return model.evaluate(name, step, branch)
    layer, _, part = name.rpartition(".")
    if layer in model.reach and part in OPERANDS:
        return operand_scale(model, layer, part, step, branch)
    if part == "bias" and layer in model.layers:
        bias, order = model.layers[layer].bias_at(step, branch), channel_order(model.config, layer)
        return bias if order is None else bias[order]
    table = getattr(model.layers.get(layer), part, None) if part in ("scale", "zero_point") else None
    if table is None:
        raise ExportError(
            f"initializer {name!r}: expected a fold, or a bias, scale or zero point of a layer; this is a bug"
        )
    return np.asarray(table[step, branch])
