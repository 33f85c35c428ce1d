"""Which kernel every product, attention and row got; slow ones are named as slow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.execution import imported
from support.onnx_graphs import model, node

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.cpu.chosen import ChosenKernel, chosen_kernels, report, unused
from tvm_flow.backends.place import pack_weights
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.target.features import offered
from tvm_flow.target.spec import TargetSpec, load_target

PI = load_target("raspberry-pi-5").features


def product_graph(m: int, k: int, n: int, lead: tuple[int, ...] = ()) -> Any:
    """X float [.., m, k] quantized, times a constant int8 [k, n]."""
    weight = np.random.default_rng(0).integers(-127, 128, (k, n)).astype(np.int8)
    nodes = [
        node("QuantizeLinear", "x s", "q", output_dtype=3),
        node("DequantizeLinear", "q s", "d"),
        node("DequantizeLinear", "w s", "dw"),
        node("MatMul", "d dw", "y"),
    ]
    return imported(model(nodes, {"x": (*lead, m, k)}, {"y": (*lead, m, n)}, {"s": np.float32(0.125), "w": weight}))


def chosen(graph: Any, features: frozenset[str]) -> list[ChosenKernel]:
    return list(chosen_kernels(pack_weights(partition(graph), choose_isa(features)), features))


@pytest.mark.parametrize(
    ("features", "size", "instructions", "slow"),
    [
        (PI, (8, 64, 32), "sdot", ""),
        (PI, (8, 15, 32), "generic", "K = 15 is no multiple of 16"),
        (PI, (8, 64, 12), "sdot", "N = 12 is no multiple of 8"),
        (PI | {"i8mm"}, (7, 64, 32), "sdot", ""),
        (frozenset({"neon"}), (8, 64, 32), "smlal", ""),
        (frozenset({"neon"}), (8, 48, 32), "neon", ""),
        (frozenset[str](), (8, 64, 32), "generic", "no feature of the target multiplies codes"),
    ],
)
def test_a_product_says_which_instructions_it_got(
    features: frozenset[str], size: tuple[int, int, int], instructions: str, slow: str
) -> None:
    (product,) = [each for each in chosen(product_graph(*size), features) if each.kind.startswith("product")]
    assert product.kind == "product {}x{}x{}".format(*size)
    assert product.instructions == instructions
    assert product.slow.startswith(slow) and bool(product.slow) == bool(slow)


def test_a_product_whose_weights_are_not_packed_is_slow() -> None:
    packed = replace(pack_weights(partition(product_graph(8, 64, 32)), choose_isa(PI)), products={})
    (product,) = [each for each in chosen_kernels(packed, PI) if each.kind.startswith("product")]
    assert (product.kind, product.instructions) == ("product, not packed", "neon")
    assert "so its weights are not packed" in product.slow


def test_sums_in_the_order_of_the_graph_are_slow() -> None:
    graph = imported(model([node("Softmax", "x", "y", axis=-1)], {"x": (1, 37)}, {"y": (1, 37)}, {}))
    (kernel,) = chosen(graph, PI)
    assert (kernel.kind, kernel.slow) == ("sums in order", "neither vectors nor threads")


def test_attention_and_rows_say_their_vectors(exported: Exported) -> None:
    kernels = chosen(import_graph(exported.graphs[0][0]), PI)
    kinds = {each.kind.split()[0] for each in kernels}
    assert {"product", "attention", "rows"} <= kinds <= {"product", "attention", "rows", "float"}
    others = [each for each in kernels if not each.kind.startswith("product ")]
    assert {(each.instructions, each.slow) for each in others} == {("neon", "")}


def test_alike_kernels_share_a_line_with_all_their_calls() -> None:
    kernels = [ChosenKernel(name, "rows", "avx2") for name in "ab"]
    slow = ChosenKernel("c", "product 4x15x32", "generic", "K = 15 is no multiple of 2")
    assert report([(kernels[0], 2), (slow, 1), (kernels[1], 3)]) == [
        "rows: avx2, 5 calls",
        "product 4x15x32: generic, 1 call; slow: K = 15 is no multiple of 2",
    ]


def test_faster_instructions_that_a_target_does_not_list_are_named() -> None:
    short = TargetSpec("pi", "aarch64-linux-gnu", "cortex-a76", frozenset({"neon"}))
    assert unused(short.features, offered(short.triple, short.cpu)) == "sdot"
    assert unused(PI, offered("aarch64-linux-gnu", "cortex-a76")) == ""
