"""What backends ask of the codes in constant matrices: whether 4 bits hold them, and whether one is -128."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_flow.graph.constants import Array, Constant, evaluate, given_names
from tvm_flow.graph.program import Program


def narrow_arguments(program: Program) -> dict[str, set[int]]:
    """By kernel, the positions of matrices whose codes lie from -8 to 7 at every call.

    A kernel's calls are looked at until one is wider, so that of a model in 8 bits little is read.
    """
    graph, found = program.graph, dict[str, set[int]]()
    for call in program.calls:
        matrices = {
            position
            for position, name in enumerate(call.args)
            if name in graph.constants
            and program.tensors[name].dtype == "int8"
            and len(program.tensors[name].shape) == 2
        }
        left = found.get(call.kernel, matrices) & matrices
        found[call.kernel] = {p for p in left if _within(graph.constants[call.args[p]], graph.given, -8, 7)}
    return found


def bounded_argument(program: Program, kernel: str, position: int) -> bool:
    """True when the argument at ``position`` is a constant without the code -128 at every call of ``kernel``."""
    graph = program.graph
    names = {call.args[position] for call in program.calls if call.kernel == kernel}
    return all(name in graph.constants and _within(graph.constants[name], graph.given, -127, 127) for name in names)


def _within(constant: Constant, given: Mapping[str, Array], least: int, most: int) -> bool:
    if not all(name in given for name in given_names(constant)):
        return False
    codes = evaluate(constant, given)
    return bool(codes.min() >= least and codes.max() <= most)
