"""A computation by TOSA's integer operators, written down: what `IntegerOperators` was asked, to be asked again.

`Recorder` has the operators' methods and notes each call with the shape and type of what it gives;
`IntegerProgram.run` calls the same methods of others, on arrays or in a graph. Its values are numbered: first the
inputs, those of the caller and then one for each array that was ``given``; then what was made, in order. Only what
every step shares is inside: tables and literals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

import numpy as np

from tvm_flow.numerics.tosa_operators import Array, Elementwise, IntegerOperators, Reduction, Shift, V

Option = int | str | bool | list[int]
CONSTANT = "constant"


@dataclass(frozen=True)
class Spec:
    """Shape and element type of a value."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Instruction:
    """``method`` of `IntegerOperators` on values and what it takes beside them, by its names; a constant has ``array``.

    Operands of a list or pair of tensors stand one after the other.
    """

    method: str
    operands: tuple[int, ...]
    options: tuple[tuple[str, Option], ...]
    result: Spec
    array: Array | None = None

    def run(self, ops: IntegerOperators[V], values: Sequence[V]) -> V:
        """By ``ops``, ``values`` being all that there are so far."""
        if self.array is not None:
            return ops.constant(self.array)
        given, options = [values[operand] for operand in self.operands], dict(self.options)
        if self.method == "concat":
            return ops.concat(given, **options)  # type: ignore[arg-type]
        if self.method == "rescale":
            return ops.rescale(given[0], (given[1], given[2]), **options)  # type: ignore[arg-type]
        first = [options.pop("operator")] if "operator" in options else []
        result: V = getattr(ops, self.method)(*first, *given, **options)
        return result


@dataclass(frozen=True)
class IntegerProgram:
    """``instructions`` on ``inputs``; the value numbered ``output`` is the result."""

    inputs: tuple[Spec, ...]
    instructions: tuple[Instruction, ...]
    output: int

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Of all values, by number."""
        return (*self.inputs, *(each.result for each in self.instructions))

    @property
    def result(self) -> Spec:
        """Of the output."""
        return self.specs[self.output]

    @property
    def macs(self) -> int:
        """Multiply-adds of its products."""
        specs = self.specs
        products = (each for each in self.instructions if each.method in ("conv1x1", "matmul"))
        return sum(prod(each.result.shape) * specs[each.operands[0]].shape[-1] for each in products)

    def run(self, ops: IntegerOperators[V], inputs: Sequence[V]) -> V:
        """The output, computed or written down by ``ops``."""
        values = list(inputs)
        for instruction in self.instructions:
            values.append(instruction.run(ops, values))
        return values[self.output]

    def to_text(self) -> str:
        """JSON; equal programs give equal text."""
        rows = [_row(each) for each in self.instructions]
        inputs = [[list(spec.shape), spec.dtype] for spec in self.inputs]
        return json.dumps({"inputs": inputs, "instructions": rows, "output": self.output}, separators=(",", ":"))


@cache
def program_from_text(text: str) -> IntegerProgram:
    """The inverse of `IntegerProgram.to_text`."""
    said = json.loads(text)
    inputs = tuple(Spec(tuple(shape), dtype) for shape, dtype in said["inputs"])
    return IntegerProgram(inputs, tuple(_instruction(*row) for row in said["instructions"]), said["output"])


def _row(each: Instruction) -> list[Any]:
    data = None if each.array is None else np.ascontiguousarray(each.array).tobytes().hex()
    return [each.method, list(each.operands), dict(each.options), [list(each.result.shape), each.result.dtype], data]


def _instruction(method: str, operands: list[int], options: dict[str, Option], result: Any, data: Any) -> Instruction:
    spec = Spec(tuple(result[0]), result[1])
    array = None if data is None else np.frombuffer(bytes.fromhex(data), spec.dtype).reshape(spec.shape)
    return Instruction(method, tuple(operands), tuple(options.items()), spec, array)


@dataclass(frozen=True)
class Recorded:
    """A value of a `Recorder`: an input, or what instruction ``made`` gives."""

    shape: tuple[int, ...]
    dtype: str
    input: int = -1
    made: int = -1


@dataclass
class Recorder:
    """Methods as `tvm_flow.numerics.tosa_operators.IntegerOperators` has them; ``arrays`` are those that were given."""

    inputs: list[Recorded] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)
    steps: list[tuple[Instruction, tuple[Recorded, ...]]] = field(default_factory=list)

    def input(self, shape: Sequence[int], dtype: str) -> Recorded:
        """The next input of the caller's; all of them come before the first operator."""
        self.inputs.append(Recorded(tuple(shape), dtype, input=len(self.inputs)))
        return self.inputs[-1]

    def program(self, output: Recorded) -> IntegerProgram:
        """What was recorded; ``output`` is its result."""
        inputs = tuple(Spec(each.shape, each.dtype) for each in self.inputs)

        def number(value: Recorded) -> int:
            return value.input if value.made < 0 else len(inputs) + value.made

        numbered = tuple(
            Instruction(each.method, tuple(map(number, operands)), each.options, each.result, each.array)
            for each, operands in self.steps
        )
        return IntegerProgram(inputs, numbered, number(output))

    def constant(self, array: Array) -> Recorded:
        return self._add(Instruction(CONSTANT, (), (), Spec(array.shape, str(array.dtype)), array), ())

    def given(self, array: Array) -> Recorded:
        self.arrays.append(array)
        return self.input(array.shape, str(array.dtype))

    def conv1x1(self, x: Recorded, weight: Recorded, bias: Recorded) -> Recorded:
        return self._note("conv1x1", (x, weight, bias), (*x.shape[:3], weight.shape[0]), "int32")

    def matmul(self, a: Recorded, b: Recorded, zero: int = 0) -> Recorded:
        return self._note("matmul", (a, b), (*a.shape[:2], b.shape[2]), "int32", zero=zero)

    def rescale(self, x: Recorded, scale: tuple[Recorded, Recorded], dtype: str, zero: int = 0) -> Recorded:
        spec = Spec(x.shape, dtype)
        return self._add(Instruction("rescale", (), (("dtype", dtype), ("zero", zero)), spec), (x, *scale))

    def table(self, x: Recorded, table: Recorded) -> Recorded:
        return self._note("table", (x, table), x.shape, "int32")

    def elementwise(self, operator: Elementwise, a: Recorded, b: Recorded) -> Recorded:
        return self._note("elementwise", (a, b), _together(a, b), a.dtype, operator=operator)

    def multiply(self, a: Recorded, b: Recorded, shift: int = 0) -> Recorded:
        return self._note("multiply", (a, b), _together(a, b), "int32", shift=shift)

    def shift(self, operator: Shift, x: Recorded, by: Recorded, rounded: bool = False) -> Recorded:
        return self._note("shift", (x, by), _together(x, by), "int32", operator=operator, rounded=rounded)

    def clz(self, x: Recorded) -> Recorded:
        return self._note("clz", (x,), x.shape, "int32")

    def magnitude(self, x: Recorded) -> Recorded:
        return self._note("magnitude", (x,), x.shape, "int32")

    def reduce(self, operator: Reduction, x: Recorded, axis: int) -> Recorded:
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        return self._note("reduce", (x,), shape, x.dtype, operator=operator, axis=axis)

    def cast(self, x: Recorded, dtype: str) -> Recorded:
        return self._add(Instruction("cast", (), (("dtype", dtype),), Spec(x.shape, dtype)), (x,))

    def reshape(self, x: Recorded, shape: tuple[int, ...]) -> Recorded:
        return self._note("reshape", (x,), shape, x.dtype, shape=list(shape))

    def transpose(self, x: Recorded, axes: Sequence[int]) -> Recorded:
        return self._note("transpose", (x,), tuple(x.shape[axis] for axis in axes), x.dtype, axes=list(axes))

    def slice(self, x: Recorded, axis: int, start: int, stop: int) -> Recorded:
        shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
        return self._note("slice", (x,), shape, x.dtype, axis=axis, start=start, stop=stop)

    def concat(self, parts: Sequence[Recorded], axis: int) -> Recorded:
        first = parts[0]
        shape = (*first.shape[:axis], sum(part.shape[axis] for part in parts), *first.shape[axis + 1 :])
        return self._note("concat", tuple(parts), shape, first.dtype, axis=axis)

    def _note(self, method: str, operands: tuple[Recorded, ...], *result: Any, **options: Option) -> Recorded:
        shape, dtype = result
        spec = Spec(tuple(int(extent) for extent in shape), dtype)
        return self._add(Instruction(method, (), tuple(options.items()), spec), operands)

    def _add(self, instruction: Instruction, operands: tuple[Recorded, ...]) -> Recorded:
        self.steps.append((instruction, operands))
        return Recorded(instruction.result.shape, instruction.result.dtype, made=len(self.steps) - 1)


def _together(a: Recorded, b: Recorded) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(a.shape, b.shape))
