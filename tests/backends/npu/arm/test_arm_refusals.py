"""What must be refused, one row for each operator and limit; what lies at a limit is taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from support.execution import HOST
from support.relax_kernels import f32, function_of, gelu_codes, linear
from tvm.relax import op as R

from tvm_flow.backends.base import Kernel, Offer
from tvm_flow.backends.npu.arm.backend import ArmBackend
from tvm_flow.backends.npu.arm.limits import MAX_DEPTH, MAX_EXTENT
from tvm_flow.backends.packed import Refusal
from tvm_flow.graph.integers import integers_call
from tvm_flow.numerics.integer_program import Recorded, Recorder

Params = tuple[tuple[tuple[int, ...], str], ...]


@dataclass(frozen=True)
class Case:
    build: Callable[..., Any]
    params: Params
    constant: tuple[bool, ...] = ()

    def answer(self) -> Offer | Refusal:
        constant = self.constant or (False, *(True for _ in self.params[1:]))
        return ArmBackend().offers(Kernel("k", function_of(self.build, *self.params), constant), HOST)


def product(k: int = 8, m: int = 4, n: int = 6) -> Params:
    return (((m, k), "int8"), ((k, n), "int8"), ((n,), "float32"), ((n,), "float32"))


def codes(k: int = 8, m: int = 4, n: int = 6) -> Params:
    return (*product(k, m, n), ((n,), "float32"), ((), "float32"))


def then(operator: Callable[..., Any]) -> Callable[..., Any]:
    """A linear, then ``operator`` of its result."""
    return lambda emit, *params: emit(operator(linear(emit, *params)))


def other_gelu(emit: Any, *params: Any) -> Any:
    """As the table's GELU is built, but for the cubic's coefficient."""
    return gelu_codes(emit, *params, cubic=0.1)


def integers(write: Callable[[Recorder], Recorded]) -> Case:
    """A kernel of TOSA's integer operators, as ``write`` records it."""
    recorder = Recorder()
    output = write(recorder)
    program = recorder.program(output)
    params = tuple((spec.shape, spec.dtype) for spec in program.inputs)
    return Case(lambda emit, *given: emit(integers_call(program, given)), params)


def sums(depth: int) -> Case:
    return integers(lambda r: r.matmul(r.input((1, 2, depth), "int8"), r.input((1, depth, 3), "int8")))


def doubled(*shape: int) -> Case:
    def write(recorder: Recorder) -> Recorded:
        x = recorder.input(shape, "int32")
        return recorder.elementwise("add", x, x)

    return integers(write)


FLOATS: Params = (((4, 8), "float32"), ((8, 6), "float32"))
REFUSED: dict[str, tuple[Case, str]] = {
    "no product": (Case(lambda emit, x: emit(R.exp(x)), (((4, 8), "float32"),)), "no product in it"),
    "a division": (Case(then(lambda y: R.divide(y, f32(3.0))), product()), "divide of .*no division that rounds once"),
    "an exponential": (Case(then(R.exp), product()), "exp of float32 .*few units' error"),
    "a root": (Case(then(R.sqrt), product()), "sqrt of float32 .*few units' error"),
    "rounding": (Case(then(R.round), product()), "round of float32 .*casts and RESCALE"),
    "an operator it has not": (Case(then(lambda y: R.sum(y, axis=-1)), product()), "sum of .*has no such operator"),
    "a cast to codes": (Case(then(lambda y: R.astype(y, "int8")), product()), "astype of float32 .*not to int8"),
    "a batch of products": (
        Case(lambda emit, a, b: emit(R.matmul(a, b)), (((2, 4, 8), "float32"), ((2, 8, 6), "float32"))),
        "matmul of float32 .*two matrices only",
    ),
    "half floats": (
        Case(
            lambda emit, a, b: emit(R.matmul(emit(R.astype(a, "float64")), b)), (((4, 8), "int8"), ((8, 6), "float64"))
        ),
        "float64",
    ),
    "weights that are computed": (Case(linear, product(), (False, False, True, True)), "no constant"),
    "scales that are computed": (
        Case(gelu_codes, codes(), (False, True, True, True, True, False)),
        "no constant",
    ),
    "a depth beyond int32": (Case(linear, product(k=MAX_DEPTH + 1)), f"depth of at most {MAX_DEPTH}"),
    "a depth beyond int32, with GELU": (Case(gelu_codes, codes(k=MAX_DEPTH + 1)), "divide|round|minimum|depth"),
    "an axis that is too long": (Case(linear, product(m=MAX_EXTENT + 1)), f"axes of at most {MAX_EXTENT}"),
    "another GELU": (Case(other_gelu, codes()), "exp of .*few units' error"),
    "seven axes": (
        Case(
            lambda emit, a, b, c: emit(R.add(emit(R.matmul(a, b)), c)),
            (*FLOATS, ((1, 1, 1, 1, 1, 4, 6), "float32")),
        ),
        "add of .*at most 6 axes",
    ),
    "a depth beyond int32, in integers": (sums(MAX_DEPTH + 1), f"matmul of int8 .*depth of at most {MAX_DEPTH}"),
    "an axis that is too long, in integers": (doubled(MAX_EXTENT + 1), f"int32 .*axes of at most {MAX_EXTENT}"),
    "too many elements, in integers": (doubled(2, MAX_EXTENT, MAX_EXTENT), "elementwise of .*elements"),
    "seven axes, in integers": (doubled(1, 1, 1, 1, 1, 2, 3), "elementwise of .*block in integers: at most 6 axes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_operator_types_shapes_and_rule(name: str) -> None:
    case, reason = REFUSED[name]
    answer = case.answer()
    assert isinstance(answer, Refusal) and answer.remedy
    assert re.search(reason, answer.reason), answer.reason


TAKEN: dict[str, Case] = {
    "a linear": Case(linear, product()),
    "codes after GELU": Case(gelu_codes, codes()),
    "floats": Case(lambda emit, a, b: emit(R.matmul(a, b)), FLOATS),
    "the greatest depth": Case(linear, product(k=MAX_DEPTH)),
    "the longest axis": Case(linear, product(m=MAX_EXTENT)),
    "the greatest depth, in integers": sums(MAX_DEPTH),
    "the longest axis, in integers": doubled(MAX_EXTENT),
    "six axes, in integers": doubled(1, 1, 1, 1, 2, 3),
    "a literal": Case(then(lambda y: R.multiply(y, f32(0.5))), product()),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_lies_at_a_limit_is_taken(name: str) -> None:
    answer = TAKEN[name].answer()
    assert isinstance(answer, Offer), answer
    assert (answer.arithmetic is not None) == ("GELU" in name)


def test_an_answer_depends_on_nothing_that_was_asked_before() -> None:
    case = TAKEN["codes after GELU"]
    first = case.answer()
    REFUSED["a division"][0].answer()
    assert case.answer() == first
