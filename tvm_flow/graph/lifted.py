"""Reading and rebuilding the straight-line Relax functions that ONNX graphs import to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import tvm
from tvm import relax

from tvm_flow.errors import ImportGraphError
from tvm_flow.graph.constants import Array, Constant, Given
from tvm_flow.graph.names import made_up
from tvm_flow.graph.types import Expr, Relax, Var


@dataclass(frozen=True)
class LiftedGraph:
    """A step graph as a Relax module whose constants are parameters.

    ``module["main"]`` takes the graph's ``inputs`` first and then one parameter per entry of ``constants``; ``given``
    holds the initializers' values. ``left_in_float`` names what the integer pass could not convert, with the reason.
    """

    module: tvm.IRModule
    inputs: tuple[str, ...]
    constants: dict[str, Constant]
    given: dict[str, Array]
    left_in_float: tuple[str, ...] = ()
    decisive: frozenset[str] = frozenset()
    """Initializers whose values decided the structure: another value may give another."""
    scales: frozenset[str] = frozenset()
    """Initializers whose values were checked to be scales, and decided nothing."""


def shape_of(expr: Expr) -> tuple[int, ...]:
    """Static shape of a tensor expression; raises ImportGraphError when a dimension is symbolic."""
    try:
        return tuple(map(int, expr.ty.shape.values))  # a shape asks for its values again at every index
    except (TypeError, ValueError, AttributeError) as error:
        raise ImportGraphError(
            f"{expr}: expected a tensor of static shape, got {expr.ty}; export with fixed sizes"
        ) from error


def dtype_of(expr: Expr) -> str:
    """Element type of a tensor expression, e.g. ``int8``."""
    return str(expr.ty.dtype)


def op_name(expr: Expr) -> str:
    """``relax.matmul`` and the like; empty for anything that is not a call of an operator."""
    if isinstance(expr, tvm.ir.Call) and isinstance(expr.op, tvm.ir.Op):
        return str(expr.op.name)
    return ""


def bindings_of(function: Relax) -> Iterator[tuple[Var, Expr]]:
    """(variable, value) of every binding, in order."""
    for block in function.body.blocks:
        for binding in block.bindings:
            yield binding.var, binding.value


def tensor_var(name: str, shape: Iterable[int], dtype: str) -> Var:
    """A Relax variable of static tensor type."""
    return relax.Var(name, relax.TensorType(list(shape), dtype))


def returned(function: Relax) -> Var:
    """The variable whose value ``function`` returns, aliases followed to what is computed, or given."""
    values, var = dict(bindings_of(function)), function.body.body
    while isinstance(values.get(var), relax.Var):
        var = values[var]
    return var


def call_with(call: Expr, args: Iterable[Expr]) -> Expr:
    """``call`` with other arguments, its attributes kept and its type left to be inferred."""
    return tvm.ir.Call(call.op, list(args), call.attrs)


class BlockBuilder(relax.BlockBuilder):  # type: ignore[misc]  # TVM has no types
    """TVM's, which ends its block when an error leaves its function: else it warns on stderr as it goes."""

    def _exit_function_scope(self, kind: object, error: object, trace: object) -> None:
        if kind is not None and not self._func._is_emit_func_output_called:
            self._end_block()
        super()._exit_function_scope(kind, error, trace)


@dataclass
class Builder:
    """Emits one straight-line function, collecting parameters as they are first used."""

    inputs: list[Var]
    block: BlockBuilder = field(default_factory=BlockBuilder)
    parameters: dict[str, Var] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    made: dict[Constant, str] = field(default_factory=dict)
    """Names made up for constants."""

    def emit(self, expr: Expr) -> Var:
        """Bind ``expr`` to a fresh variable."""
        return self.block.emit(expr)

    def parameter(self, name: str, constant: Constant, shape: Iterable[int], dtype: str) -> Var:
        """The parameter for ``constant``, whose ``name`` is its own; one per name."""
        if name not in self.parameters:
            self.parameters[name] = tensor_var(name, shape, dtype)
            self.constants[name] = constant
        return self.parameters[name]

    def derived(self, hint: str, constant: Constant, shape: Iterable[int], dtype: str) -> Var:
        """The parameter for ``constant`` under a name made up of ``hint``; one per constant."""
        if constant not in self.made:
            self.made[constant] = made_up(hint, self.parameters)
        return self.parameter(self.made[constant], constant, shape, dtype)

    def is_parameter(self, expr: Expr) -> bool:
        """True for a parameter of this function, False for any other variable, whatever its name."""
        return isinstance(expr, relax.Var) and expr.same_as(self.parameters.get(expr.name))

    def given(self, variable: Var) -> Var:
        """The parameter for an initializer, under its own name."""
        return self.parameter(variable.name, Given(variable.name), shape_of(variable), dtype_of(variable))
