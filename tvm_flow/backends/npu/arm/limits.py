"""What Arm's toolchain takes, as rules: TOSA 1.0's level 8K, and what was found to compute what it should."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm_flow.backends.npu.vendor import Complaint, Limit, tensors_of
from tvm_flow.backends.packed import Refusal
from tvm_flow.graph.lifted import dtype_of, shape_of
from tvm_flow.numerics.integer_program import IntegerProgram

MAX_RANK = 6
MAX_EXTENT = 1 << 16
"""Of one axis; vela refuses more, and index arithmetic of shaders ends near it."""
MAX_DEPTH = 1 << 15
"""Of a product of int8: 2^15 products of at most 2^14 leave one bit of int32 for a bias, and RESCALE takes the sums."""
MAX_ELEMENTS = 1 << 29

_SMALLER = "split the tensor, or leave it to the CPU"
_SHALLOWER = "split the layer, or keep it on the CPU"


def within_level(call: Any) -> Complaint | None:
    """Rank and extents of all tensors."""
    return next(filter(None, (_too_large(shape_of(tensor)) for tensor in (call, *tensors_of(call)))), None)


def _too_large(shape: tuple[int, ...]) -> Complaint | None:
    if len(shape) > MAX_RANK:
        return Complaint(f"at most {MAX_RANK} axes", "reshape it in the graph")
    if any(extent > MAX_EXTENT for extent in shape) or prod(shape) > MAX_ELEMENTS:
        return Complaint(f"axes of at most {MAX_EXTENT} and {MAX_ELEMENTS} elements", _SMALLER)
    return None


def refused_integers(program: IntegerProgram) -> Refusal | None:
    """Of a computation by TOSA's own integer operators the first that breaks a rule; None where all keep them."""
    specs = program.specs
    for each in program.instructions:
        given = [specs[operand] for operand in each.operands]
        deep = each.method in ("conv1x1", "matmul") and given[0].shape[-1] > MAX_DEPTH
        said = [_too_large(spec.shape) for spec in (each.result, *given)]
        said.append(Complaint(f"a depth of at most {MAX_DEPTH}", _SHALLOWER) if deep else None)
        if (complaint := next(filter(None, said), None)) is not None:
            words = ", ".join(f"{spec.dtype} {list(spec.shape)}" for spec in given)
            return Refusal(f"{each.method} of {words}, in a block in integers: {complaint.rule}", complaint.remedy)
    return None


def types(*dtypes: str, result: str) -> Limit:
    """Operands of ``dtypes``, a result of ``result``."""

    def limit(call: Any) -> Complaint | None:
        got = tuple(dtype_of(arg) for arg in call.args[: len(dtypes)])
        if got == dtypes and dtype_of(call) == result:
            return None
        return Complaint(f"{', '.join(dtypes)} to {result} only, not to {dtype_of(call)}", "cast it in the graph")

    return limit


def any_of(*limits: Limit) -> Limit:
    """At least one of ``limits`` is kept; else the complaint of the first."""

    def limit(call: Any) -> Complaint | None:
        said = [each(call) for each in limits]
        return None if None in said else said[0]

    return limit


def matrices(call: Any) -> Complaint | None:
    """Two operands of two axes."""
    if all(len(shape_of(arg)) == 2 for arg in call.args[:2]):
        return None
    return Complaint("a product of two matrices only", "leave attention to the CPU, or write it as a fused kernel")


def shallow(call: Any) -> Complaint | None:
    """Sums that RESCALE takes."""
    if shape_of(call.args[0])[-1] <= MAX_DEPTH:
        return None
    return Complaint(f"a depth of at most {MAX_DEPTH}", _SHALLOWER)
