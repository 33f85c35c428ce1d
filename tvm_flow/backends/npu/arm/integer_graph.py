"""`tvm_flow.numerics.tosa_operators` as a TOSA graph: what a function of them computes on arrays, a device does.

``given`` constants are baked in, as Ethos-U wants them, or inputs of the graph, which a VGF takes: then one graph
serves every step, and `IntegerGraph.arrays` are what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.numerics.tosa_operators import Array, Elementwise, Reduction, Shift


@dataclass
class IntegerGraph:
    """Methods as `tvm_flow.numerics.tosa_operators.IntegerOperators` has them.

    ``baked`` says what becomes of ``given``; ``arrays`` are the values of those inputs that are constants, in the order
    of the graph's inputs.
    """

    baked: bool = True
    graph: TosaGraph = field(default_factory=TosaGraph)
    arrays: list[Array] = field(default_factory=list)

    def constant(self, array: Array) -> Value:
        return self.graph.constant(array)

    def given(self, array: Array) -> Value:
        if self.baked:
            return self.graph.constant(array)
        self.arrays.append(array)
        return self.graph.input(array.shape, str(array.dtype))

    def conv1x1(self, x: Value, weight: Value, bias: Value) -> Value:
        return self.graph.conv1x1(x, weight, bias)

    def matmul(self, a: Value, b: Value, zero: int = 0) -> Value:
        operands = (a, b, self.graph.zero("int8", zero), self.graph.zero("int8"))
        return self.graph.call("matmul", operands, "", (*a.shape[:2], b.shape[2]), "int32")

    def rescale(self, x: Value, scale: tuple[Value, Value], dtype: str, zero: int = 0) -> Value:
        along = str(scale[0].shape != (1,)).lower()
        how = (
            f"scale32 = true, rounding_mode = SINGLE_ROUND, per_channel = {along}, input_unsigned = false, "
            "output_unsigned = false"
        )
        operands = (x, *scale, self.graph.zero(x.dtype), self.graph.zero(dtype, zero))
        return self.graph.call("rescale", operands, how, x.shape, dtype)

    def table(self, x: Value, table: Value) -> Value:
        return self.graph.table(x, table)

    def elementwise(self, operator: Elementwise, a: Value, b: Value) -> Value:
        return self.graph.elementwise(operator, a, b)

    def multiply(self, a: Value, b: Value, shift: int = 0) -> Value:
        shape = tuple(np.broadcast_shapes(a.shape, b.shape))
        return self.graph.call("mul", (a, b, self.graph.zero("int8", shift)), "", shape, "int32")

    def shift(self, operator: Shift, x: Value, by: Value, rounded: bool = False) -> Value:
        how = f"round = {str(rounded).lower()}" if operator == "arithmetic_right_shift" else ""
        shape = tuple(np.broadcast_shapes(x.shape, by.shape))
        return self.graph.call(operator, (x, by), how, shape, "int32")

    def clz(self, x: Value) -> Value:
        return self.graph.call("clz", (x,), "", x.shape, "int32")

    def magnitude(self, x: Value) -> Value:
        return self.graph.call("abs", (x,), "", x.shape, "int32")

    def reduce(self, operator: Reduction, x: Value, axis: int) -> Value:
        if operator == "reduce_max" and self.baked:
            return self._largest(x, axis)
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        return self.graph.call(operator, (x,), f"axis = {axis} : i32", shape, x.dtype)

    def _largest(self, x: Value, axis: int) -> Value:
        """By halves, which overlap where an extent is odd: U55 and U65 have no REDUCE_MAX, on U85 it is slower."""
        while (extent := x.shape[axis]) > 1:
            half = -(-extent // 2)
            x = self.elementwise("maximum", self.slice(x, axis, 0, half), self.slice(x, axis, extent - half, extent))
        return x

    def cast(self, x: Value, dtype: str) -> Value:
        return self.graph.cast(x, dtype)

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        return self.graph.reshape(x, shape)

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        return self.graph.transpose(x, axes)

    def slice(self, x: Value, axis: int, start: int, stop: int) -> Value:
        begin = [start if i == axis else 0 for i in range(len(x.shape))]
        size = [stop - start if i == axis else extent for i, extent in enumerate(x.shape)]
        return self.graph.slice(x, begin, size)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        extent = sum(part.shape[axis] for part in parts)
        shape = (*parts[0].shape[:axis], extent, *parts[0].shape[axis + 1 :])
        return self.graph.call("concat", parts, f"axis = {axis} : i32", shape, parts[0].dtype)
