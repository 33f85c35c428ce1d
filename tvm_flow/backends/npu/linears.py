"""The linears of codes that a kernel starts with, for devices of integers alone, which take those and leave its floats.

x int8 -> matmul, float, times a scale, plus a bias                       a linear
                  -> GELU, times a gain, divided by a step, codes         with what follows it in an MLP
                  -> and the linear that reads them                       where a backend joined the two
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name

_LINEAR = ["relax.matmul", "relax.astype", "relax.multiply", "relax.add"]


@dataclass(frozen=True)
class Linear:
    """What it reads: codes ``x`` [M, K]; parameters of the kernel: weights [K, N], the scale of its sums, a bias.

    ``gain`` and ``step`` are those of the codes that it hands on, None where it hands on floats.
    """

    x: Any
    weights: Any
    scale: Any
    bias: Any
    gain: Any = None
    step: Any = None


def linears_of(function: Any) -> tuple[Linear, ...]:
    """Those that the kernel ``function`` starts with, none where it starts with something else."""
    calls = [value for _, value in bindings_of(function) if op_name(value)]
    if [op_name(call) for call in calls[:4]] != _LINEAR or dtype_of(calls[0].args[0]) != "int8":
        return ()
    starts = [position for position, call in enumerate(calls) if op_name(call) == _LINEAR[0]]
    return tuple(_linear(calls[start:end]) for start, end in pairwise((*starts, len(calls))))


def _linear(calls: list[Any]) -> Linear:
    product, _, scaled, biased = calls[:4]
    read = [product.args[0], *(call.args[1] for call in (product, scaled, biased))]
    codes = [call.args[1] for call in calls[-5:-3]] if dtype_of(calls[-1]) == "int8" else []
    return Linear(*read, *codes)


def outside(function: Any) -> BuildError:
    """Why the kernel ``function`` is none of a device that takes its linears."""
    names = [op_name(value) for _, value in bindings_of(function) if op_name(value)]
    return BuildError(f"kernel of {names}: expected a linear of codes; leave it outside")


@dataclass(frozen=True)
class Values:
    """Those of a kernel's parameters that are constants, by position."""

    function: Any
    constants: Mapping[int, Array]

    def of(self, parameter: Any) -> Array:
        """Raises BuildError for a tensor."""
        found = self.constants.get(self.place(parameter))
        if found is None:
            raise BuildError(
                f"{parameter}: expected a constant, which a command stream holds, got a tensor; leave it outside"
            )
        return found

    def place(self, parameter: Any) -> int:
        """-1 for what is none."""
        return next(
            (i for i, each in enumerate(self.function.params) if parameter is not None and each.same_as(parameter)), -1
        )
