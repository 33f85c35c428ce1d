"""TOSA graphs, written as MLIR text: one method of `TosaGraph` for each operator that lowering uses.

Tensors are named in the order in which they are made; constants are hexadecimal, so that none is rounded. Operands of
an elementwise operator have one rank. `tvm_flow.toolchain.arm_npu` serializes, runs and compiles the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.numerics.rescale import Rounding

Array = npt.NDArray[Any]
TYPES = {"int8": "i8", "int16": "i16", "int32": "i32", "float32": "f32"}
"""MLIR's names of the element types."""


@dataclass(frozen=True)
class Value:
    """A tensor of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def type(self) -> str:
        """As MLIR writes it."""
        return f"tensor<{'x'.join(map(str, (*self.shape, TYPES[self.dtype])))}>"


@dataclass
class TosaGraph:
    """A graph in the making; `text` ends it."""

    inputs: list[Value] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    made: int = 0

    def input(self, shape: tuple[int, ...], dtype: str) -> Value:
        """The next input of the graph."""
        value = Value(f"%a{len(self.inputs)}", shape, dtype)
        self.inputs.append(value)
        return value

    def constant(self, array: Array) -> Value:
        """A constant of one axis at least."""
        array = np.ascontiguousarray(array)
        value = self._new(array.shape, str(array.dtype))
        words = f'values = dense<"0x{array.tobytes().hex().upper()}"> : {value.type}'
        self.lines.append(f'{value.name} = "tosa.const"() <{{{words}}}> : () -> {value.type}')
        return value

    def zero(self, dtype: str, value: int = 0) -> Value:
        """A zero point, 0 in most places."""
        return self.constant(np.full(1, value, dtype))

    def conv1x1(self, x: Value, weight: Value, bias: Value) -> Value:
        """int8 [1, 1, M, K] and [N, 1, 1, K], int32 [N] -> int32 [1, 1, M, N]: a linear, as accelerators like it."""
        zero = self.zero("int8")
        how = "acc_type = i32, pad = array<i64: 0,0,0,0>, stride = array<i64: 1,1>, dilation = array<i64: 1,1>"
        shape = (*x.shape[:3], weight.shape[0])
        return self.call("conv2d", (x, weight, bias, zero, zero), how, shape, "int32")

    def matmul(self, a: Value, b: Value) -> Value:
        """[B, M, K] and [B, K, N] of int8 -> int32, of float32 -> float32."""
        zero = self.zero(a.dtype)
        dtype = "float32" if a.dtype == "float32" else "int32"
        return self.call("matmul", (a, b, zero, zero), "", (*a.shape[:2], b.shape[2]), dtype)

    def rescale(
        self, x: Value, multiplier: Value, shift: Value, dtype: str, rounding: Rounding = Rounding.SINGLE
    ) -> Value:
        """Integers to others of ``dtype``; one multiplier and shift, or one for each of the last axis."""
        along = str(multiplier.shape != (1,)).lower()
        how = (
            f"scale32 = true, rounding_mode = {rounding}, per_channel = {along}, input_unsigned = false, "
            "output_unsigned = false"
        )
        return self.call("rescale", (x, multiplier, shift, self.zero(x.dtype), self.zero(dtype)), how, x.shape, dtype)

    def table(self, x: Value, table: Value) -> Value:
        """int8 by 256 entries -> int8; int16 by 513 -> int32 with 7 more bits."""
        return self.call("table", (x, table), "", x.shape, "int8" if x.dtype == "int8" else "int32")

    def elementwise(self, operator: str, a: Value, b: Value) -> Value:
        """add, sub, maximum, minimum or mul of two of one type and rank."""
        shape = tuple(np.broadcast_shapes(a.shape, b.shape))
        operands = (a, b, self.zero("int8")) if operator == "mul" else (a, b)
        return self.call(operator, operands, "", shape, a.dtype)

    def cast(self, x: Value, dtype: str) -> Value:
        """Floats to integers round half to even and saturate."""
        return self.call("cast", (x,), "", x.shape, dtype)

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        """``x`` itself where nothing changes."""
        if shape == x.shape:
            return x
        value, name = self._new(shape, x.dtype), self._extents(shape)
        kind = f"!tosa.shape<{len(shape)}>"
        self.lines.append(f"{value.name} = tosa.reshape {x.name}, {name} : ({x.type}, {kind}) -> {value.type}")
        return value

    def slice(self, x: Value, start: Sequence[int], size: Sequence[int]) -> Value:
        """``size`` elements of each axis from ``start`` on."""
        value, begin, extents = self._new(tuple(size), x.dtype), self._extents(start), self._extents(size)
        kind = f"!tosa.shape<{len(x.shape)}>"
        self.lines.append(
            f"{value.name} = tosa.slice {x.name}, {begin}, {extents} : ({x.type}, {kind}, {kind}) -> {value.type}"
        )
        return value

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """Axis i of the result is axis ``axes[i]``."""
        shape = tuple(x.shape[axis] for axis in axes)
        return self.call("transpose", (x,), f"perms = array<i32: {', '.join(map(str, axes))}>", shape, x.dtype)

    def text(self, output: Value) -> str:
        """The whole module, whose one output is ``output``; its inputs are named a0, a1, ... and it y."""
        given = ", ".join(f'{v.name}: {v.type} {{tosa.tensor_name = "{v.name[1:]}"}}' for v in self.inputs)
        result = f'({output.type} {{tosa.tensor_name = "y"}})'
        body = "\n    ".join((*self.lines, f"return {output.name} : {output.type}"))
        return f"module {{\n  func.func @main({given}) -> {result} {{\n    {body}\n  }}\n}}\n"

    def call(
        self, operator: str, operands: Sequence[Value], attributes: str, shape: tuple[int, ...], dtype: str
    ) -> Value:
        """``operator`` of ``operands``, with ``attributes`` as MLIR writes them: one tensor of that shape and type."""
        value = self._new(shape, dtype)
        names, types = (", ".join(getattr(v, part) for v in operands) for part in ("name", "type"))
        how = f" {{{attributes}}}" if attributes else ""
        self.lines.append(f"{value.name} = tosa.{operator} {names}{how} : ({types}) -> {value.type}")
        return value

    def _extents(self, numbers: Sequence[int]) -> str:
        name, kind = self._name(), f"!tosa.shape<{len(numbers)}>"
        words = ", ".join(map(str, numbers))
        values = f"dense<[{words}]> : tensor<{len(numbers)}xindex>"
        self.lines.append(f"{name} = tosa.const_shape {{values = {values}}} : () -> {kind}")
        return name

    def _new(self, shape: tuple[int, ...], dtype: str) -> Value:
        return Value(self._name(), tuple(shape), dtype)

    def _name(self) -> str:
        self.made += 1
        return f"%v{self.made}"
