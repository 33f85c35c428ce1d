"""Names that the flow makes up never meet those of a graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from tvm_flow.graph.names import MARK, QUOTE, candidates, made_up, quote_names, quoted, unquoted

NAMES = st.text(st.sampled_from([MARK, QUOTE, "t", "0", ".", "~"]), min_size=1, max_size=8) | st.text(min_size=1)


@given(NAMES, NAMES)
def test_quoting_keeps_different_names_different_and_off_the_made_up_ones(a: str, b: str) -> None:
    assert (quoted(a) == quoted(b)) == (a == b)
    assert unquoted(quoted(a)) == a and not quoted(a).startswith(MARK)
    assert next(candidates(b)) != quoted(a)


@given(st.lists(NAMES, max_size=20))
def test_made_up_names_are_all_different(hints: list[str]) -> None:
    taken: set[str] = set()
    for hint in hints:
        name = made_up(hint, taken)
        assert name not in taken and name.startswith(MARK)
        taken.add(name)


def test_a_name_made_up_of_a_made_up_one_keeps_one_mark() -> None:
    assert made_up(made_up("w", ()) + ".s8", ()) == f"{MARK}w.s8"


def test_branches_of_a_graph_are_quoted_too() -> None:
    inner = helper.make_graph([helper.make_node("Neg", [f"{MARK}x"], ["y"])], "inner", [], [])
    outer = helper.make_graph(
        [helper.make_node("If", ["c"], [f"{MARK}o"], then_branch=inner, else_branch=inner)], "outer", [], []
    )
    quote_names(outer)
    (node,) = outer.node
    assert list(node.input) == ["c"] and list(node.output) == [f"{QUOTE}{MARK}o"]
    assert [list(a.g.node[0].input) for a in node.attribute] == [[f"{QUOTE}{MARK}x"]] * 2
