"""Merged calls compute what the calls computed, and only what hands over one result is merged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.execution import imported
from support.quantized_graphs import attention, mlp

from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import evaluate
from tvm_flow.graph.program import Program
from tvm_flow.lower.merged import merged
from tvm_flow.lower.partition import partition
from tvm_flow.numerics.step import execute_step


def tensors_of(program: Program) -> dict[str, np.ndarray]:
    """Random inputs, and the constants."""
    rng, graph = np.random.default_rng(0), program.graph
    inputs = {name: rng.normal(size=program.tensors[name].shape).astype(np.float32) for name in graph.inputs}
    return inputs | {name: evaluate(constant, graph.given) for name, constant in graph.constants.items()}


@pytest.mark.parametrize("graph", [mlp, attention])
def test_all_calls_as_one_give_the_same_codes_and_floats(graph) -> None:  # type: ignore[no-untyped-def]
    program = partition(imported(graph()))
    assert len(program.calls) > 1
    one = merged(program, [range(len(program.calls))])
    ((call,), (kernel,)) = one.calls, one.kernels
    assert call.kernel == kernel and call.output == program.output
    want, got = (execute_step(p.kernels, p.calls, tensors_of(program))[p.output] for p in (program, one))
    np.testing.assert_array_equal(got, want)


def test_a_run_that_hands_over_more_is_refused_and_others_are_left() -> None:
    program = partition(imported(mlp()))
    assert merged(program, []).calls == program.calls
    read_twice = Program(
        program.graph, program.kernels, program.calls, program.tensors, program.calls[0].output, 0, (program.output,)
    )
    with pytest.raises(BuildError, match=f"expected one result, got {program.calls[0].output}, too"):
        merged(read_twice, [range(2)])
    late = Program(program.graph, program.kernels, program.calls, program.tensors, program.output, 1)
    with pytest.raises(BuildError, match="one side of the prologue's end"):
        merged(late, [range(2)])


def test_no_number_is_given_twice_where_kernels_were_merged_before() -> None:
    program = partition(imported(mlp()))
    numbers = [f"k{number}_matmul" for number in range(len(program.kernels), len(program.kernels) + 3)]
    known = {**program.kernels, **{name: next(iter(program.kernels.values())) for name in numbers[1:]}}
    whole = merged(replace(program, kernels=known), [range(len(program.calls))])
    (name,) = whole.kernels
    assert name.startswith(f"k{len(program.kernels) + 3}_"), "the number of kernels is taken, and the next is free"
