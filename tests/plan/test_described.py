"""Calls have the names of the layers that they are parts of."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from tvm_flow.backends.place import place
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.plan.coverage import coverage
from tvm_flow.plan.described import DescribedCall, described
from tvm_flow.target.spec import load_target


@pytest.fixture(scope="module")
def calls(exported: Exported) -> tuple[DescribedCall, ...]:
    return described(place(partition(import_graph(exported.graphs[0][0])), load_target("host")))


def test_every_product_of_a_block_has_its_layers_name(calls: tuple[DescribedCall, ...]) -> None:
    named = [call.name for call in calls if call.kind == "integer product"]
    assert len(named) == len(set(named)) and all(re.search(r"blocks\.\d+\.", name) for name in named)
    layers = {re.sub(r".*blocks\.\d+\.", "", name) for name in named}
    assert {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "cross_attn.q_linear", "cross_attn.proj"} <= layers


def test_attention_is_named_by_the_layers_around_it(calls: tuple[DescribedCall, ...]) -> None:
    named = {call.name for call in calls if call.kind == "attention"}
    assert named and all(re.fullmatch(r".*blocks\.\d+\.\w*attn\w*", name) for name in named)


def test_nothing_is_left_with_the_name_of_its_kernel(calls: tuple[DescribedCall, ...]) -> None:
    kinds: dict[str, list[str]] = defaultdict(list)
    for call in calls:
        kinds[call.kind].append(call.name)
    assert not [name for names in kinds.values() for name in names if re.match(r"k\d+_", name)]


def test_the_work_of_all_calls_is_that_of_the_program(exported: Exported) -> None:
    packed = place(partition(import_graph(exported.graphs[0][0])), load_target("host"))
    assert sum(call.macs for call in described(packed)) == coverage(packed).total.macs


def test_the_least_leaves_out_what_is_only_moved_and_what_is_read_again(exported: Exported) -> None:
    packed = place(partition(import_graph(exported.graphs[0][0])), load_target("host"))
    rows, reread = described(packed), Counter(name for call in packed.program.calls for name in call.args)
    assert all(call.least == 0 for call in rows if call.kind == "move")
    others = [call for call in rows if call.kind != "move"]
    assert 0 < sum(call.least for call in others) < sum(call.bytes for call in others) and max(reread.values()) > 1
