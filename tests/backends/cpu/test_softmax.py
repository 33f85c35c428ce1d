"""Which kernels are taken for attention in blocks of keys, and what of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.attentions import attention
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.export import Exported
from tvm_flow.graph.lifted import bindings_of, op_name, shape_of
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition


def test_every_attention_of_a_step_is_known(exported: Exported) -> None:
    """Among places, across frames, and to the caption, whose scores a mask is added to."""
    program = partition(import_graph(exported.graphs[0][0]))
    names = {name: [op_name(value) for _, value in bindings_of(f)] for name, f in program.kernels.items()}
    attentions = [program.kernels[name] for name, operators in names.items() if operators.count("relax.matmul") == 2]
    found = [as_attention(function) for function in attentions]
    assert all(found) and sorted(len(each.steps) for each in found if each) == [0, 0, 1]
    assert not any(as_attention(f) for f in program.kernels.values() if f not in attentions)


def between(change: Callable[..., Any], **others: tuple[int, ...]) -> Any:
    """Attention of 2 x 8 rows to 12 keys, whose scores ``change`` makes something else of, reading ``others``."""
    shapes = {"q": (2, 8, 4), "k": (2, 4, 12), "v": (2, 12, 4)} | others
    given = {name: relax.Var(name, relax.TensorType(list(shape), "float32")) for name, shape in shapes.items()}
    block = relax.BlockBuilder()
    emit = block.emit
    with block.function("main", list(given.values())):
        with block.dataflow():
            scores = change(emit, emit(R.matmul(given["q"], given["k"])), *(given[name] for name in others))
            power = emit(R.exp(emit(R.subtract(scores, emit(R.max(scores, axis=[-1], keepdims=True))))))
            weights = emit(R.divide(power, emit(R.sum(power, axis=[-1], keepdims=True))))
            output = block.emit_output(R.matmul(weights, given["v"]))
        block.emit_func_output(output)
    return block.get()["main"]


def test_steps_are_kept_in_order_with_their_operands() -> None:
    def change(emit: Any, scores: Any, bias: Any) -> Any:
        return emit(R.subtract(bias, emit(R.multiply(scores, relax.const(0.5, "float32")))))

    found = as_attention(between(change, bias=(8, 12)))
    assert found is not None
    assert [(step.operator, step.first) for step in found.steps] == [
        ("relax.multiply", False),
        ("relax.subtract", True),
    ]
    assert found.steps[0].operand == 0.5 and shape_of(found.steps[1].operand) == (8, 12)
    assert (found.batch, found.rows, found.depth, found.keys, found.channels) == ((2,), 8, 4, 12, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda emit, scores, m: emit(R.add(scores, emit(R.exp(m)))),
        lambda emit, scores, m: emit(R.maximum(scores, m)),
        lambda emit, scores, m: emit(R.multiply(scores, emit(R.add(scores, m)))),
    ],
    ids=["computed here", "no such step", "twice"],
)
def test_other_steps_are_left_to_the_general_schedule(change: Callable[..., Any]) -> None:
    assert as_attention(between(change, mask=(12,))) is None


def test_a_product_alone_is_no_attention() -> None:
    whole = attention(1, 2, 8, 4, 12, False)
    q, k = whole.params[:2]
    block = relax.BlockBuilder()
    with block.function("main", [q, k]):
        with block.dataflow():
            output = block.emit_output(R.matmul(q, k))
        block.emit_func_output(output)
    assert as_attention(whole) is not None and as_attention(block.get()["main"]) is None
