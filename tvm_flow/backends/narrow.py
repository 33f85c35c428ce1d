"""Constant matrices whose codes need no more than 4 bits: a backend may have them two in a byte."""

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
        found[call.kernel] = {p for p in left if _fits_nibbles(graph.constants[call.args[p]], graph.given)}
    return found


def _fits_nibbles(constant: Constant, given: Mapping[str, Array]) -> bool:
    if not all(name in given for name in given_names(constant)):
        return False
    codes = evaluate(constant, given)
    return bool(codes.min() >= -8 and codes.max() <= 7)
