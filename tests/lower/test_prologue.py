"""What depends on the prompt alone is computed once for all steps: which values those are, and where they are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto
from support.execution import imported, reference_output, run_checked, value_of
from support.exported_model import MODELS, Exporter
from support.onnx_graphs import model, node, random_nodes

from tvm_flow.backends.cpu.generic import GENERIC
from tvm_flow.backends.place import pack_weights
from tvm_flow.graph.lifted import bindings_of, op_name
from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.lower.prologue import prologue_variables

RECIPES = ("symmetric", "asymmetric", "float")


@pytest.fixture(scope="session")
def programs(exporter: Exporter) -> dict[str, Program]:
    return {name: partition(import_graph(exporter(name).graphs[0][0])) for name in RECIPES}


def reach(program: Program) -> dict[str, set[str]]:
    """The graph inputs that every tensor depends on, found call by call."""
    found = {name: {name} if name in program.graph.inputs else set() for name in program.tensors}
    for call in program.calls:
        found[call.output] = set().union(*(found[name] for name in call.args))
    return found


def assert_cut_right(program: Program) -> None:
    latent, *prompt = program.graph.inputs
    depends = reach(program)
    early, late = program.calls[: program.prologue], program.calls[program.prologue :]
    read_early = {name for call in early for name in call.args}
    for call in early:
        assert depends[call.output] <= set(prompt), call
        assert depends[call.output] or call.output in read_early, f"{call}: constants alone"
    for call in late:
        assert latent in depends[call.output] or not depends[call.output] or call.output == program.output, call
    written = {call.output for call in early}
    assert set(program.kept()) == written & {name for call in late for name in call.args}
    assert len(set(program.kept())) == len(program.kept())
    assert program.output not in written


@pytest.mark.parametrize("chosen", MODELS, indirect=True)
class TestStepGraph:
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_no_prologue_call_reads_the_latent_and_no_step_call_could_be_early(
        self, programs: dict[str, Program], recipe: str
    ) -> None:
        assert programs[recipe].prologue > 0
        assert_cut_right(programs[recipe])

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_what_crosses_is_k_and_v_as_attention_reads_them(self, programs: dict[str, Program], recipe: str) -> None:
        """Scaled, biased, transposed: [heads, width, L] and [heads, L, width] of every block, nothing else."""
        program = programs[recipe]
        _, (length, _), _ = (program.tensors[name].shape for name in program.graph.inputs)
        reads_mask = [call for call in program.calls if "mask" in call.args]
        shapes = [program.tensors[name].shape for name in program.kept()]
        assert len(shapes) == 2 * len(reads_mask) > 0
        assert all(program.tensors[name].dtype == "float32" for name in program.kept())
        heads, width, _ = next(shape for shape in shapes if shape[-1] == length)
        assert set(shapes) == {(heads, width, length), (heads, length, width)}
        for name in program.kept():
            (reader,) = [c for c in program.calls[program.prologue :] if name in c.args]
            assert reader in reads_mask and "matmul" in reader.kernel, "attention itself"

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_the_step_does_not_read_the_tokens(self, programs: dict[str, Program], recipe: str) -> None:
        program = programs[recipe]
        assert not [call for call in program.calls[program.prologue :] if "y" in call.args]
        weights = {name for call in program.calls[program.prologue :] for name in call.args if "kv_linear" in name}
        assert not weights

    def test_packing_keeps_the_cut(self, programs: dict[str, Program]) -> None:
        program = programs["symmetric"]
        assert pack_weights(program, GENERIC).program.prologue == program.prologue


def two_inputs(nodes: list[NodeProto], output: str = "o") -> Program:
    """A graph of a latent x and a prompt y, both [6, 6]."""
    return partition(imported(model(nodes, {"x": (6, 6), "y": (6, 6)}, {output: (6, 6)})))


def test_a_value_of_the_prompt_ends_before_the_kernel_that_reads_it() -> None:
    """Without the cut all four would be one elementwise kernel."""
    program = two_inputs(
        [node("Exp", "y", "a"), node("Add", "a y", "b"), node("Mul", "x b", "c"), node("Exp", "c", "o")]
    )
    assert_cut_right(program)
    assert (len(program.calls), program.prologue) == (2, 1)
    assert program.kept() == (program.calls[0].output,)
    late = [op_name(value) for _, value in bindings_of(program.kernels[program.calls[1].kernel]) if op_name(value)]
    assert late == ["relax.multiply", "relax.exp"]


def test_an_output_of_the_prompt_alone_is_still_made_by_the_step() -> None:
    program = two_inputs([node("Exp", "y", "a"), node("Transpose", "a", "o", perm=[1, 0])])
    assert_cut_right(program)
    assert program.calls[-1].output == program.output


def test_a_graph_of_one_input_has_no_prologue() -> None:
    program = partition(imported(model([node("Exp", "x", "o")], {"x": (4,)}, {"o": (4,)})))
    assert (program.prologue, program.kept()) == (0, ())


def test_variables_by_hand() -> None:
    """z the latent, y and m the prompt, c a constant; k is of constants, and read by the prologue."""
    bindings = [
        *[("a", ["y", "c"]), ("b", ["a", "m"]), ("k", ["c"]), ("l", ["k", "b"])],
        *[("d", ["z", "b"]), ("e", ["d"]), ("f", ["c", "c"]), ("o", ["a"])],
    ]
    assert prologue_variables(["z", "y", "m"], bindings, "o") == {"a", "b", "k", "l"}
    assert prologue_variables(["z"], bindings, "o") == frozenset()
    assert prologue_variables([], bindings, "o") == frozenset()


UNARY = st.sampled_from(["Exp", "Relu", "Softmax", "Transpose", "Square"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(UNARY, st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8))
def test_random_graphs(steps: list[tuple[str, int, int]]) -> None:
    """Any shape of graph: the cut is right, and the values are those of the whole graph."""
    nodes, last = random_nodes(["x", "y"], steps)
    program = two_inputs(nodes, last)
    assert_cut_right(program)


def test_the_values_are_those_of_the_whole_graph() -> None:
    nodes = [
        *[node("Softmax", "y", "a", axis=-1), node("Transpose", "a", "k", perm=[1, 0]), node("MatMul", "x k", "s")],
        *[node("Softmax", "s", "p", axis=-1), node("MatMul", "p y", "q"), node("Add", "q x", "o")],
    ]
    graph = imported(model(nodes, {"x": (6, 6), "y": (6, 6)}, {"o": (6, 6)}))
    rng = np.random.default_rng(3)
    feeds = {name: rng.standard_normal((6, 6)).astype(np.float32) for name in ("x", "y")}
    program = partition(graph)
    (transposed,) = program.kept()
    assert [call for call in program.calls[program.prologue :] if call.args == ("x", transposed)]
    seen = run_checked(pack_weights(program, GENERIC), feeds)
    np.testing.assert_allclose(seen.output, value_of(reference_output(graph, feeds)), rtol=2e-6, atol=2e-6)
