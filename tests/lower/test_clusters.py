"""Which operators are computed with a product before its result reaches memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.relax import op as R

from tvm_flow.graph.lifted import bindings_of, op_name, shape_of
from tvm_flow.lower.clusters import ELEMENTWISE, clusters, tensor_args

M, K, N = 6, 8, 4


class Graph:
    """Emits bindings by name, and gives the clusters by name."""

    def __init__(self) -> None:
        self.block = relax.BlockBuilder()
        self.inputs: list[Any] = []
        self.names: dict[Any, str] = {}

    def input(self, *shape: int, dtype: str = "float32") -> Any:
        self.inputs.append(relax.Var(f"p{len(self.inputs)}", relax.TensorType(list(shape), dtype)))
        return self.inputs[-1]

    def clusters(
        self, body: Callable[[Callable[[str, Any], Any]], Any], early: frozenset[str] = frozenset()
    ) -> dict[str, set[str]]:
        """Members of every cluster of more than one, by the name of its last; ``early`` are names."""

        def emit(name: str, expr: Any) -> Any:
            var = self.block.emit(expr)
            self.names[var] = name
            return var

        with self.block.function("main", self.inputs):
            with self.block.dataflow():
                result = body(emit)
                output = self.block.emit_output(result)
            self.block.emit_func_output(output)
        bindings = [(v, e) for v, e in bindings_of(self.block.get()["main"]) if not isinstance(e, relax.Var)]
        found: dict[str, set[str]] = {}
        first = frozenset(var for var, _ in bindings if self.names.get(var) in early)
        for var, last in clusters(bindings, [result], first).items():
            found.setdefault(self.names[last], set()).add(self.names[var])
        return {name: members for name, members in found.items() if len(members) > 1}


def product(graph: Graph, emit: Callable[[str, Any], Any], name: str = "product") -> Any:
    x, w = graph.inputs[:2]
    return emit(name, R.matmul(x, w, out_dtype="int32"))


@pytest.fixture
def graph() -> Graph:
    """Inputs: x and w int8, a vector and a matrix of floats."""
    made = Graph()
    made.input(M, K, dtype="int8"), made.input(K, N, dtype="int8"), made.input(N), made.input(M, N)
    return made


def dequantized(graph: Graph, emit: Callable[[str, Any], Any], tag: str = "") -> Any:
    acc = product(graph, emit, f"product{tag}")
    return emit(f"scaled{tag}", R.multiply(emit(f"cast{tag}", R.astype(acc, "float32")), graph.inputs[2]))


def test_gate_and_residual_are_part_of_the_product(graph: Graph) -> None:
    def body(emit: Any) -> Any:
        gated = emit("gated", R.multiply(dequantized(graph, emit), graph.inputs[2]))
        return emit("sum", R.add(graph.inputs[3], gated))

    assert graph.clusters(body) == {"sum": {"product", "cast", "scaled", "gated", "sum"}}


def test_a_product_of_the_prologue_ends_where_the_step_begins(graph: Graph) -> None:
    """The same graph without the cut is one kernel, which would be computed at every step."""

    def body(emit: Any) -> Any:
        gated = emit("gated", R.multiply(dequantized(graph, emit), graph.inputs[2]))
        return emit("sum", R.add(graph.inputs[3], gated))

    early = frozenset({"product", "cast", "scaled"})
    assert graph.clusters(body, early) == {"scaled": {"product", "cast", "scaled"}}


def test_a_value_read_several_times_inside_is_no_end(graph: Graph) -> None:
    """As GELU does."""

    def body(emit: Any) -> Any:
        x = dequantized(graph, emit)
        square = emit("square", R.multiply(x, x))
        return emit("codes", R.astype(emit("ratio", R.divide(x, square)), "int8"))

    assert graph.clusters(body) == {"codes": {"product", "cast", "scaled", "square", "ratio", "codes"}}


def test_it_ends_where_somebody_else_reads(graph: Graph) -> None:
    """A residual stream goes on to a norm and to the next addition."""

    def body(emit: Any) -> Any:
        x = emit("stream", R.add(graph.inputs[3], dequantized(graph, emit)))
        mean = emit("mean", R.sum(x, axis=[-1], keepdims=True))
        return emit("next", R.add(x, mean))

    assert graph.clusters(body) == {"stream": {"product", "cast", "scaled", "stream"}}


def test_it_ends_before_elements_change_their_place(graph: Graph) -> None:
    def body(emit: Any) -> Any:
        flat = emit("flat", R.reshape(dequantized(graph, emit), (M * N,)))
        return emit("double", R.add(flat, flat))

    assert graph.clusters(body) == {"scaled": {"product", "cast", "scaled"}}


def test_two_readers_of_the_sums_leave_the_product_alone(graph: Graph) -> None:
    def body(emit: Any) -> Any:
        acc = product(graph, emit)
        flat = emit("flat", R.reshape(emit("cast", R.astype(acc, "float32")), (M * N,)))
        other = emit("other", R.reshape(acc, (M * N,)))
        return emit("sum", R.add(flat, emit("other cast", R.astype(other, "float32"))))

    assert graph.clusters(body) == {}


def test_products_that_meet_are_two_kernels(graph: Graph) -> None:
    def body(emit: Any) -> Any:
        first = dequantized(graph, emit, " 1")
        return emit("sum", R.add(first, dequantized(graph, emit, " 2")))

    assert graph.clusters(body) == {
        "sum": {"product 1", "cast 1", "scaled 1", "sum"},
        "scaled 2": {"product 2", "cast 2", "scaled 2"},
    }


def test_what_nobody_reads_does_not_end_an_epilogue(graph: Graph) -> None:
    def body(emit: Any) -> Any:
        x = dequantized(graph, emit)
        emit("dead", R.sum(x, axis=[-1], keepdims=True))
        return emit("twice", R.add(x, x))

    assert graph.clusters(body) == {"twice": {"product", "cast", "scaled", "twice"}}


def softmax(emit: Any, scores: Any) -> Any:
    top = emit("max", R.max(scores, axis=[-1], keepdims=True))
    power = emit("exp", R.exp(emit("less", R.subtract(scores, top))))
    return emit("weights", R.divide(power, emit("total", R.sum(power, axis=[-1], keepdims=True))))


ATTENTION = {"scores", "max", "less", "exp", "total", "weights", "mixed"}


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_one_kernel(masked: bool) -> None:
    graph = Graph()
    q, k, v, mask = graph.input(2, 6, 8), graph.input(2, 8, 5), graph.input(2, 5, 8), graph.input(5)

    def body(emit: Any) -> Any:
        scores = emit("scores", R.matmul(q, k))
        if masked:
            scores = emit("masked", R.add(scores, mask))
        return emit("after", R.multiply(emit("mixed", R.matmul(softmax(emit, scores), v)), q))

    assert graph.clusters(body) == {"mixed": ATTENTION | ({"masked"} if masked else set())}


def test_scores_that_somebody_else_reads_are_written_out() -> None:
    graph = Graph()
    q, k, v = graph.input(2, 6, 8), graph.input(2, 8, 5), graph.input(2, 5, 5)

    def body(emit: Any) -> Any:
        scores = emit("scores", R.matmul(q, k))
        return emit("sum", R.add(emit("mixed", R.matmul(softmax(emit, scores), v)), scores))

    assert graph.clusters(body) == {}


def test_a_chain_of_products_without_a_softmax_is_not_attention() -> None:
    graph = Graph()
    q, k, v = graph.input(2, 6, 8), graph.input(2, 8, 5), graph.input(2, 5, 8)
    assert graph.clusters(lambda emit: emit("y", R.matmul(emit("scores", R.matmul(q, k)), v))) == {}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "multiply", "sum", "reshape"]), st.integers(0, 9), st.integers(0, 9)))
)
def test_only_the_last_of_a_cluster_is_read_outside(steps: list[tuple[str, int, int]]) -> None:
    graph = Graph()
    graph.input(M, K, dtype="int8"), graph.input(K, N, dtype="int8"), graph.input(N), graph.input(M, N)

    def body(emit: Any) -> Any:
        values = [dequantized(graph, emit, " a"), graph.inputs[3], dequantized(graph, emit, " b")]
        for number, (kind, left, right) in enumerate(steps):
            x, y = values[left % len(values)], values[right % len(values)]
            if kind == "sum":
                values.append(emit(f"{number}", R.add(x, emit(f"{number} mean", R.sum(y, axis=[-1], keepdims=True)))))
            elif kind == "reshape":
                moved = emit(f"{number} flat", R.reshape(x, (N, M)))
                values.append(emit(f"{number}", R.reshape(moved, (M, N))))
            else:
                values.append(emit(f"{number}", getattr(R, kind)(x, y)))
        return emit("result", R.add(values[-1], values[0]))

    graph.clusters(body)
    main = graph.block.get()["main"]
    bindings = [(v, e) for v, e in bindings_of(main) if not isinstance(e, relax.Var)]
    result = next(v for v, name in graph.names.items() if name == "result")
    last, live = clusters(bindings, [result]), {result}
    for var, call in reversed(bindings):
        live |= set(tensor_args(call)) if var in live else set()
    for var, call in bindings:
        for arg in tensor_args(call):
            if arg in last and var in live and last.get(var) is not last[arg]:
                assert arg.same_as(last[arg])
        if var in last and op_name(call) != "relax.matmul":
            assert op_name(call) in ELEMENTWISE and shape_of(var) == (M, N)
