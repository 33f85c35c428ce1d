"""What is said of a library's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.place import pack_weights
from tvm_flow.compile.kernel_lines import kernel_lines
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.target.spec import TargetSpec


def lines_for(exported: Exported, target: TargetSpec) -> list[str]:
    packed = pack_weights(partition(import_graph(exported.graphs[0][0])), choose_isa(target.features))
    return kernel_lines(cast(Sequence[GroupLibrary], [SimpleNamespace(packed=packed, tuning={})] * 2), target)


@pytest.mark.parametrize(
    ("features", "instructions", "faster"),
    [({"dotprod"}, "sdot", ""), (set[str](), "neon", "products would run on sdot if target pi listed all features")],
)
def test_every_product_and_what_a_short_list_costs(
    exported: Exported, features: set[str], instructions: str, faster: str
) -> None:
    target = TargetSpec("pi", "aarch64-linux-gnu", "cortex-a76", frozenset(features))
    lines = lines_for(exported, target)
    products = [line for line in lines if line.startswith("product ")]
    assert products and all(f": {instructions}, " in line or "; slow: " in line for line in products)
    assert all(int(line.split(", ")[1].split()[0]) % 2 == 0 for line in products)  # calls of both libraries
    assert any(line.startswith("attention: neon, ") for line in lines)
    assert (lines[-1].startswith(faster)) if faster else not lines[-1].startswith("products would")


def test_this_machine_lists_all_that_it_has(exported: Exported) -> None:
    hidden = TargetSpec("host", "x86_64-linux-gnu", "znver4", frozenset({"avx2"}))
    assert not [line for line in lines_for(exported, hidden) if line.startswith("products would")]
