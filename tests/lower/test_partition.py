"""Cutting a graph into kernels: everything computed once, in order, and equal kernels shared."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.execution import imported
from support.exported_model import Exporter
from support.onnx_graphs import model, node, random_nodes

from tvm_flow.graph.lifted import LiftedGraph, bindings_of, dtype_of, op_name, shape_of
from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.clusters import ELEMENTWISE, SOFTMAX
from tvm_flow.lower.partition import PLACE_CHANGING, REDUCTIONS, partition


@pytest.fixture(scope="module")
def programs(exporter: Exporter) -> dict[str, Program]:
    return {name: partition(import_graph(exporter(name).graphs[0][0])) for name in ("symmetric", "asymmetric", "float")}


def assert_straight_line(program: Program) -> None:
    """Each call reads what is there already, and writes a tensor that no other call writes."""
    known = {p.name for p in program.graph.module["main"].params}
    for call in program.calls:
        assert set(call.args) <= known, call
        assert call.output not in known
        known.add(call.output)
        function = program.kernels[call.kernel]
        specs = [program.tensors[name] for name in (*call.args, call.output)]
        variables = [*function.params, function.body.body]
        assert [(s.shape, s.dtype) for s in specs] == [(shape_of(v), dtype_of(v)) for v in variables]
    assert program.output in known
    read = {name for call in program.calls for name in call.args} | {program.output}
    assert all(call.output in read for call in program.calls), "nothing is computed for nobody"
    assert set(program.kernels) == {call.kernel for call in program.calls}


def operators_of_calls(program: Program) -> Counter[str]:
    found: Counter[str] = Counter()
    for call in program.calls:
        found.update(op_name(value) for _, value in bindings_of(program.kernels[call.kernel]) if op_name(value))
    return found


def live_operators(graph: LiftedGraph) -> Counter[str]:
    """Operators that the output depends on."""
    main = graph.module["main"]
    needed, found = {main.body.body}, Counter[str]()
    for var, value in reversed(list(bindings_of(main))):
        if var in needed:
            if op_name(value):
                found[op_name(value)] += 1
            for arg in getattr(value, "args", [value]):
                needed.update(getattr(arg, "fields", [arg]))
    return found


@pytest.mark.parametrize("recipe", ["symmetric", "asymmetric", "float"])
def test_step_graph_is_a_straight_line(programs: dict[str, Program], recipe: str) -> None:
    assert_straight_line(programs[recipe])


@pytest.mark.parametrize("recipe", ["symmetric", "asymmetric", "float"])
def test_every_binding_is_computed_exactly_once(programs: dict[str, Program], recipe: str) -> None:
    assert operators_of_calls(programs[recipe]) == live_operators(programs[recipe].graph)


def test_products_stand_alone_but_for_an_epilogue_or_a_softmax(programs: dict[str, Program]) -> None:
    for program in programs.values():
        for function in program.kernels.values():
            names = [op_name(value) for _, value in bindings_of(function) if op_name(value)]
            if "relax.matmul" in names and names != ["relax.matmul"]:
                assert names[0] == "relax.matmul"
                rest = set(names[1:])
                assert rest <= ELEMENTWISE or (names[-1] == "relax.matmul" and rest <= SOFTMAX | {"relax.matmul"})


def test_no_row_is_reduced_before_elements_change_their_place(programs: dict[str, Program]) -> None:
    for program in programs.values():
        for function in program.kernels.values():
            names = [op_name(value) for _, value in bindings_of(function)]
            last = max((i for i, n in enumerate(names) if n in REDUCTIONS), default=-1)
            assert not set(names[last + 1 :]) & PLACE_CHANGING or last < 0


def test_equal_kernels_are_shared(programs: dict[str, Program]) -> None:
    """The spatial and the temporal block have the same products, norms and activations."""
    program = programs["symmetric"]
    calls = Counter(call.kernel for call in program.calls)
    assert len(program.kernels) < 0.75 * len(program.calls)
    products = [name for name in program.kernels if name.endswith("_matmul")]
    assert sum(calls[name] for name in products) > len(products)


def test_names_are_numbered_and_telling(programs: dict[str, Program]) -> None:
    program = programs["symmetric"]
    assert [int(name[1:].split("_")[0]) for name in program.kernels] == list(range(len(program.kernels)))
    assert all(name.replace("_", "").isalnum() for name in program.kernels), "they become C symbols"


def test_value_read_twice_is_computed_once() -> None:
    nodes = [node("Exp", "x", "e"), node("MatMul", "e w", "p"), node("Add", "p e", "y")]
    program = partition(imported(model(nodes, {"x": (4, 4)}, {"y": (4, 4)}, {"w": np.eye(4, dtype=np.float32)})))
    assert_straight_line(program)
    assert operators_of_calls(program)["relax.exp"] == 1


def test_dead_operators_are_left_out() -> None:
    nodes = [node("Exp", "x", "unused"), node("Add", "x x", "y")]
    program = partition(imported(model(nodes, {"x": (4,)}, {"y": (4,)})))
    assert operators_of_calls(program) == {"relax.add": 1}


def test_output_that_is_also_read() -> None:
    """The output is a tensor of its own even where other operators read it."""
    nodes = [node("Exp", "x", "y"), node("Add", "y x", "unused")]
    program = partition(imported(model(nodes, {"x": (4,)}, {"y": (4,)})))
    assert_straight_line(program)
    assert len(program.calls) == 1


def test_reduction_before_a_transpose_is_a_kernel_of_its_own() -> None:
    nodes = [node("Softmax", "x", "s", axis=-1), node("Transpose", "s", "t", perm=[1, 0]), node("Exp", "t", "y")]
    program = partition(imported(model(nodes, {"x": (4, 6)}, {"y": (6, 4)})))
    assert_straight_line(program)
    assert len(program.calls) > 1


UNARY = st.sampled_from(["Exp", "Relu", "Softmax", "Sqrt", "Transpose", "Square"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(UNARY, st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_random_graphs(steps: list[tuple[str, int, int]]) -> None:
    """Any shape of graph: forks, joins, dead ends."""
    nodes, last = random_nodes(["x"], steps)
    made = model(nodes, {"x": (6, 6)}, {last: (6, 6)})
    program = partition(imported(made))
    assert_straight_line(program)
    assert operators_of_calls(program) == live_operators(program.graph)
