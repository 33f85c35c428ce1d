"""What is said of a library's kernels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.packed import PackedProgram, Placement
from tvm_flow.backends.place import pack_weights
from tvm_flow.compile.kernel_lines import kernel_lines
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.target.spec import TargetSpec


def packed_for(exported: Exported, target: TargetSpec) -> PackedProgram:
    return pack_weights(partition(import_graph(exported.graphs[0][0])), choose_isa(target.features))


def lines_of(packed: PackedProgram, target: TargetSpec) -> list[str]:
    return kernel_lines(cast(Sequence[GroupLibrary], [SimpleNamespace(packed=packed, tuning={})] * 2), target)


def lines_for(exported: Exported, target: TargetSpec) -> list[str]:
    return lines_of(packed_for(exported, target), target)


@pytest.mark.parametrize(
    ("features", "instructions", "faster"),
    [
        ({"dotprod"}, ("sdot",), ""),
        (set[str](), ("smlal", "neon"), "products would run on sdot if target pi listed all features"),
    ],
)
def test_every_product_and_what_a_short_list_costs(
    exported: Exported, features: set[str], instructions: tuple[str, ...], faster: str
) -> None:
    target = TargetSpec("pi", "aarch64-linux-gnu", "cortex-a76", frozenset(features))
    lines = lines_for(exported, target)
    products = [line for line in lines if line.startswith("product ")]
    fast = [line for line in products if "; slow: " not in line]
    assert fast and {line.split(": ")[1].split(", ")[0] for line in fast} <= set(instructions)
    assert f": {instructions[0]}, " in str(products)
    assert all(int(line.split(", ")[1].split()[0]) % 2 == 0 for line in products)  # calls of both libraries
    assert any(line.startswith("attention: neon, ") for line in lines)
    assert (lines[-1].startswith(faster)) if faster else not lines[-1].startswith("products would")


def test_this_machine_lists_all_that_it_has(exported: Exported) -> None:
    hidden = TargetSpec("host", "x86_64-linux-gnu", "znver4", frozenset({"avx2"}))
    assert not [line for line in lines_for(exported, hidden) if line.startswith("products would")]


def test_what_another_device_makes_of_its_kernels_comes_first(exported: Exported) -> None:
    target = TargetSpec("both", "x86_64-linux-gnu", "x86-64-v3", frozenset({"avx2"}))
    packed = packed_for(exported, target)
    calls = Counter(call.kernel for call in packed.program.calls)
    (one, few), (other, more), *_ = sorted(calls.items(), key=lambda item: item[1])
    there = {kernel: Placement("vulkan", "shader, rows") for kernel in (one, other)}
    lines = lines_of(replace(packed, placements={**packed.placements, **there}), target)
    assert lines[0] == f"vulkan: shader, rows, {2 * (few + more)} calls"
    counted = [int(found[1]) for line in lines if (found := re.search(r", (\d+) calls?(;|$)", line))]
    assert sum(counted) == 2 * sum(calls.values())
