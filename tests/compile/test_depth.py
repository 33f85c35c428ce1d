"""Equal blocks share kernels: a deeper model has more calls and constants, and the same kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tvm_ffi
from support import tiny_model

from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.lower.partition import partition


def program_of(depth: int, folder: Path) -> Program:
    config = replace(tiny_model.CONFIG, depth=depth)
    folder.mkdir()
    _, exported = tiny_model.make_export(tiny_model.make_ranges(folder, config=config), "w8a8", folder, config)
    (group,) = import_steps(exported.graphs, progress=False)
    return partition(group.graph)


def test_kernels_do_not_grow_with_the_depth(tmp_path: Path) -> None:
    shallow, deep = (program_of(depth, tmp_path / str(depth)) for depth in (1, 3))
    assert len(deep.calls) > 2 * len(shallow.calls)
    assert list(shallow.kernels) == list(deep.kernels), "numbered in the order in which they are first called"
    for name, kernel in shallow.kernels.items():
        assert tvm_ffi.structural_equal(kernel, deep.kernels[name], map_free_vars=True)
