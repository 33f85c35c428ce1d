"""A constant that a prologue reads and that moves from step to step is refused, by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvm_flow.compile.library import build_library
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.graph.constants import Array, given_names
from tvm_flow.importer.step_groups import StepGroup
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.steady import check_prologue
from tvm_flow.plan.tables import ConstantTables, WeightStore, encode_constants
from tvm_flow.target.spec import TargetSpec

KV = "spatial_blocks.0.cross_attn.kv_linear.scale"
Given = tuple[dict[str, Array], ...]


def tables_of(library: GroupLibrary, given: Given, exported: Exported) -> ConstantTables:
    constants = library.packed.constants
    return encode_constants(constants, given, library.members, exported.folds, exported.step_records, WeightStore())


def moved(library: GroupLibrary, name: str, variant: int) -> Given:
    """Initializer ``name`` of one variant a little larger."""
    given: Given = tuple(dict(arrays) for arrays in library.given)
    given[variant][name] = given[variant][name] * np.float32(1.001)
    return given


def check(library: GroupLibrary, given: Given, exported: Exported) -> None:
    check_prologue(library.packed, tables_of(library, given, exported), library.members, given)


def test_what_is_exported_does_not_move(library: GroupLibrary, exported: Exported) -> None:
    assert {values[KV].item() for values in library.given} > {library.given[0][KV].item()}, "branches differ"
    given: Given = tuple(dict(arrays) for arrays in library.given)
    check(library, given, exported)


@pytest.mark.parametrize("variant", range(6))
def test_a_scale_of_kv_that_moves_is_refused(library: GroupLibrary, exported: Exported, variant: int) -> None:
    _, branch = library.members[variant]
    other = 1 if variant < 2 else library.members[variant][0]
    with pytest.raises(BuildError, match=rf"{KV}: .* branch {branch}, .* between steps 0 and {other}; quantize again"):
        check(library, moved(library, KV, variant), exported)


def test_every_constant_of_the_prologue_is_watched_and_no_other(library: GroupLibrary, exported: Exported) -> None:
    program = library.packed.program
    early = {name for call in program.calls[: program.prologue] for name in call.args} & set(library.packed.constants)
    watched = {name for constant in early for name in given_names(library.packed.constants[constant])}
    scales = [name for name in library.given[0] if name.endswith(".scale") and name not in exported.folds]
    assert len(set(scales) & watched) == 2 and len(set(scales) - watched) == 12
    for name in scales:
        if name in watched:
            with pytest.raises(BuildError, match=r"expected one value for all steps"):
                check(library, moved(library, name, 4), exported)
        else:
            check(library, moved(library, name, 4), exported)


def test_no_library_is_built_of_it(library: GroupLibrary, exported: Exported, host: TargetSpec, tmp_path: Path) -> None:
    group = StepGroup(replace(library.packed.program.graph), library.members, moved(library, KV, 3))
    with pytest.raises(BuildError, match="quantize again"):
        build_library(group, exported, host, WeightStore(), tmp_path / "group0.so")
    assert list(tmp_path.iterdir()) == []
