"""The blocks of a recipe between integer: each is one node, a local function of TOSA's integer operators.

    x float32 --QuantizeLinear--> int16 [1, T S, hidden] --block--> ... --block--> int16 --DequantizeLinear--> float32
    y float32 --Mul, QuantizeLinear--> int8 [1, L, hidden] --keys and values--> int8 [1, L, 2 hidden]     of each block

Blocks of one kind share a function (see `tvm_flow.export.integer_function`); what a block is given stands in its node's
inputs after its tensors: weights in the file that all steps share, vectors, multipliers and shifts of a step in its own
graph, called ``<block>.integers.<number>`` and ``<block>.caption.<number>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from tvm_flow.calibrate import block_names
from tvm_flow.export.step import MASKED, StepWriter
from tvm_flow.numerics.integer_program import IntegerProgram, Recorder
from tvm_flow.numerics.integer_rows import MASKED as MASKED_SCORE
from tvm_flow.numerics.tosa_operators import Array
from tvm_flow.quantize.integer_block import BlockWriter
from tvm_flow.quantize.integer_model import QuantizedBlocks
from tvm_flow.quantize.quantized import QuantizedModel

UNIT = "residual.unit"
"""The scale of the residual's codes."""
_BLOCK, _CAPTION = "integers", "caption"


@dataclass(frozen=True)
class Recorded:
    """A program, and what it is given, by the names of initializers."""

    program: IntegerProgram
    given: Mapping[str, Array]


@dataclass
class RecordedBlocks:
    """The blocks of ``model`` as programs; those of the step and branch asked for last are kept."""

    model: QuantizedModel
    kept: dict[tuple[str, int, int], tuple[Recorded, Recorded]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blocks = QuantizedBlocks(self.model)
        sizes = zip(self.model.latent[1:], self.model.config.patch, strict=True)
        self.tokens = int(np.prod([-(-extent // patch) for extent, patch in sizes]))

    def of(self, name: str, step: int, branch: int) -> tuple[Recorded, Recorded]:
        """The block ``name`` itself, and what makes the caption's keys and values for it."""
        key = name, step, branch
        if key not in self.kept:
            self.kept = {other: made for other, made in self.kept.items() if other[1:] == key[1:]}
            self.kept[key] = self._recorded(*key)
        return self.kept[key]

    def _recorded(self, name: str, step: int, branch: int) -> tuple[Recorded, Recorded]:
        config = self.model.config
        block, length, hidden = self.blocks.block(name, step, branch), config.model_max_length, config.hidden
        ops = Recorder()
        x, kv = ops.input((1, self.tokens, hidden), "int16"), ops.input((1, length, 2 * hidden), "int8")
        padding = ops.cast(ops.input((1, 1, length), "int8"), "int32")
        mask = ops.multiply(padding, ops.constant(np.full((1, 1, 1), -MASKED_SCORE, np.int32)))
        whole = ops.program(BlockWriter(ops, block).run(x, kv, mask))
        caption = Recorder()
        keys = caption.program(
            BlockWriter(caption, block).caption_codes(caption.input((1, length, hidden), "int8")),
        )
        return Recorded(whole, _named(name, _BLOCK, ops)), Recorded(keys, _named(name, _CAPTION, caption))

    def knows(self, initializer: str) -> bool:
        """Whether ``initializer`` is of a block in integers."""
        return initializer == UNIT or initializer.split(".")[-2:-1] in ([_BLOCK], [_CAPTION])

    def value(self, initializer: str, step: int, branch: int) -> Array:
        """That of an ``initializer`` that is known."""
        if initializer == UNIT:
            return np.asarray(self.blocks.unit[step, branch])
        name, kind, _ = initializer.rsplit(".", 2)
        return self.of(name, step, branch)[kind == _CAPTION].given[initializer]


def _named(name: str, kind: str, recorder: Recorder) -> dict[str, Array]:
    return {f"{name}.{kind}.{number}": array for number, array in enumerate(recorder.arrays)}


def integer_blocks(w: StepWriter, x: str, y: str) -> str:
    """All blocks of tokens x [T * S, hidden] and caption y [L, hidden]."""
    g, recorded = w.g, RecordedBlocks(w.model)
    unit = g.own(UNIT, recorded.value(UNIT, w.step, w.branch))
    codes = g.op("QuantizeLinear", [x, unit], output_dtype=TensorProto.INT16)
    codes = g.reshape(codes, 1, w.tokens, w.hidden)
    scale = g.shared("mask.unit", np.array(-MASKED, np.float32))
    padding = g.op("QuantizeLinear", ["mask", scale], output_dtype=TensorProto.INT8)
    padding = g.reshape(padding, 1, 1, w.caption)
    for name in block_names(w.model.config):
        block, caption = recorded.of(name, w.step, w.branch)
        kv = _called(w, "CaptionKeys", caption, [_caption_codes(w, y, name)])
        codes = _called(w, "IntegerBlock", block, [codes, kv, padding])
    codes = g.reshape(codes, w.tokens, w.hidden)
    return g.op("DequantizeLinear", [codes, unit])


def _caption_codes(w: StepWriter, y: str, name: str) -> str:
    g, layer = w.g, w.model.layers[f"{name}.cross_attn.kv_linear"]
    if layer.input_gain is not None:
        y = g.op("Mul", [y, g.shared(f"{name}.cross_attn.kv_linear.input_gain", layer.input_gain)])
    scale = g.own(f"{name}.cross_attn.kv_linear.scale", layer.scale[w.step, w.branch].reshape(()))
    codes = g.op("QuantizeLinear", [y, scale], output_dtype=TensorProto.INT8)
    return g.reshape(codes, 1, w.caption, w.hidden)


def _called(w: StepWriter, kind: str, recorded: Recorded, tensors: Sequence[str]) -> str:
    given = [(w.g.shared if _is_weight(array) else w.g.own)(name, array) for name, array in recorded.given.items()]
    return w.g.call(kind, recorded.program, [*tensors, *given])


def _is_weight(array: Array) -> bool:
    """A matrix as CONV2D reads it: the same at every step."""
    return array.dtype == np.int8 and array.ndim == 4
