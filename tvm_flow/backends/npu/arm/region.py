"""A merged region to one TOSA graph: its parameters become inputs, its composites operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvm_flow.backends.npu.arm.constants import CONV1X1
from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.backends.npu.vendor import Lowered, Operator
from tvm_flow.backends.packed import Made
from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of


@dataclass
class Region:
    """What lowering of a composite sees: the graph, and how parameters come into it.

    A parameter becomes an input when something reads it as it is; one that only goes into constants made of several
    does not. Rank 0 is [1] here. ``arithmetic`` is set by a composite that rounds by its own rule.
    """

    graph: TosaGraph = field(default_factory=TosaGraph)
    positions: dict[Any, int] = field(default_factory=dict)
    arguments: list[int | Made] = field(default_factory=list)
    given: dict[int | Made, Value] = field(default_factory=dict)
    weights: list[int] = field(default_factory=list)
    arithmetic: str = ""

    def read(self, arg: Any) -> Value:
        """A value as it is, a parameter as an input, a literal as a constant."""
        if isinstance(arg, Value):
            return arg
        if arg in self.positions:
            return self._input(self.positions[arg], shape_of(arg) or (1,), dtype_of(arg))
        array = np.asarray(arg.value.numpy())
        return self.graph.constant(array.reshape(array.shape or (1,)))

    def weight(self, parameter: Any) -> Value:
        """A matrix [K, N] as CONV2D reads it, see `tvm_flow.backends.npu.arm.constants`."""
        self.weights.append(self.positions[parameter])
        return self._input(self.weights[-1], CONV1X1.shape(shape_of(parameter)), dtype_of(parameter))

    def made(self, rule: str, parameters: list[Any], shape: tuple[int, ...], dtype: str, *options: int) -> Value:
        """A constant that ``rule`` makes of ``parameters``, as an input."""
        positions = tuple(self.positions[parameter] for parameter in parameters)
        return self._input(Made(rule, positions, shape, dtype, options), shape, dtype)

    def _input(self, argument: int | Made, shape: tuple[int, ...], dtype: str) -> Value:
        if argument not in self.given:
            self.arguments.append(argument)
            self.given[argument] = self.graph.input(shape, dtype)
        return self.given[argument]

    def alike(self, a: Value, b: Value) -> tuple[Value, Value]:
        """Both with the rank of the larger one, as TOSA wants operands."""
        rank = max(len(a.shape), len(b.shape))
        x, y = (self.graph.reshape(v, (1,) * (rank - len(v.shape)) + v.shape) for v in (a, b))
        return x, y


def lower_region(operators: Mapping[str, Operator], prefix: str, function: Any) -> Lowered:
    """``function``, whose body calls composites, as MLIR text; raises BuildError for one that is unknown."""
    region = Region(positions={param: index for index, param in enumerate(function.params)})
    env: dict[Any, Any] = {}
    composites: dict[Any, Any] = {}
    for var, value in bindings_of(function):
        if hasattr(value, "params"):
            composites[var] = value
        elif hasattr(value, "op") and value.op in composites:
            composite = composites[value.op]
            name = str(composite.attrs["Composite"]).removeprefix(f"{prefix}.")
            if name not in operators:
                raise BuildError(f"composite {name}: expected one of {', '.join(operators)}; report this graph")
            env[var] = operators[name].lower(region, composite, [env.get(arg, arg) for arg in value.args])
        else:
            env[var] = env[value]
    output = env[function.body.body]
    result = shape_of(function.body.body)
    output = region.graph.reshape(output, result or (1,))
    order = sorted(range(len(region.arguments)), key=lambda i: _rank(region.arguments[i]))
    region.graph.inputs = [region.graph.inputs[i] for i in order]
    arguments = tuple(region.arguments[i] for i in order)
    return Lowered(region.graph.text(output), arguments, tuple(sorted(set(region.weights))), region.arithmetic)


def _rank(argument: int | Made) -> tuple[bool, int]:
    """Parameters first, in their order; what is made follows as it was made."""
    return (False, argument) if isinstance(argument, int) else (True, 0)


def calls_in(composite: Any) -> list[Any]:
    """The operator calls of ``composite``, in order."""
    return [value for _, value in bindings_of(composite) if op_name(value)]
