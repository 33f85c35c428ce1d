"""``--debug-dump``: the module after each pass, in the order of `tvm_flow.lower.passes`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tvm_ffi

from tvm_flow.compile.dump import clear_dump, dump_passes, plan_in_words
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.passes import NAMES, graph_after_each
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.target.spec import TargetSpec

KERNELS = ("partition", "legalize", "annotate", "fuse", "clean", "schedule", "assembly")


@pytest.fixture(scope="module")
def dumped(exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dump")
    dump_passes(exported.graphs[0][0], host, folder)
    return folder


def test_the_list_is_what_the_import_does(exported: Exported) -> None:
    path = exported.graphs[0][0]
    *_, (name, last) = graph_after_each(path)
    assert name == "canonicalize"
    assert tvm_ffi.structural_equal(last.module["main"], import_graph(path).module["main"])


def test_every_pass_is_there_in_its_order(dumped: Path) -> None:
    assert [path.stem[3:] for path in sorted(dumped.iterdir())] == [name for name in NAMES if name != "plan"]
    assert [int(path.name[:2]) for path in sorted(dumped.iterdir())] == list(range(len(NAMES) - 1))


def test_every_kernel_has_relax_tir_and_assembly(dumped: Path, library: GroupLibrary) -> None:
    kernels = library.packed.program.kernels
    found = {
        name: {path.stem for path in next(dumped.glob(f"*_{name}")).iterdir()} - {"calls"}
        for name in ("partition", "schedule", "assembly")
    }
    assert found["schedule"] == found["assembly"] == set(kernels)
    joined = set(kernels) - found["partition"]
    assert all("matmul_max_exp" in name for name in joined), "an attention and what moves around it become one later"
    assert len(found["partition"]) > len(kernels)
    some = next(name for name in kernels if name in found["partition"])
    assert "R.Tensor" in (dumped / "03_partition" / f"{some}.txt").read_text()
    assert "T.prim_func" in next(dumped.glob("*_schedule")).joinpath(f"{some}.txt").read_text()
    assert f"__tvm_ffi_{some}" in next(dumped.glob("*_assembly")).joinpath(f"{some}.txt").read_text()


def test_the_plan_names_every_place_and_call(library: GroupLibrary) -> None:
    lines = plan_in_words(library.plan).splitlines()
    plan = library.plan
    assert f"arena: {plan.arena_bytes} bytes" in lines
    for kind, count in (("tensor", len(plan.tensors)), ("call", len(plan.calls)), ("fold", len(plan.folds))):
        assert sum(line.startswith(f"{kind} ") for line in lines) == count > 0
    assert sum(" prologue " in line for line in lines) == plan.prologue_calls


def test_what_came_before_a_failing_pass_is_kept(
    exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BuildError("no")

    monkeypatch.setattr("tvm_flow.compile.dump.place", refuse)
    with pytest.raises(BuildError, match="no"):
        dump_passes(exported.graphs[0][0], host, tmp_path)
    assert [path.stem[3:] for path in sorted(tmp_path.iterdir())] == list(NAMES[:4])


def test_a_dump_replaces_an_earlier_one_whole(dumped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    shutil.copytree(dumped, folder / "group1")
    clear_dump(folder)
    assert list(folder.iterdir()) == []
    clear_dump(tmp_path / "none")


def test_what_a_killed_dump_was_writing_is_cleared_too(dumped: Path, tmp_path: Path) -> None:
    shutil.copytree(dumped, tmp_path / "dump" / "group0")
    (tmp_path / "dump" / "group0" / ".02_canonicalize.txt.0123abcd.tmp").mkdir()
    clear_dump(tmp_path / "dump")
    assert list((tmp_path / "dump").iterdir()) == []


@pytest.mark.parametrize("name", ["notes.txt", "group0/notes.txt", "project/src/main.c"])
def test_a_folder_with_something_else_in_it_is_refused(dumped: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "dump"
    shutil.copytree(dumped, folder / "group0")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    with pytest.raises(ConfigError, match=r"expected an empty folder or an earlier dump, got \S+ in it; choose"):
        clear_dump(folder)
    assert (folder / name).read_text() == "mine" and len(list((folder / "group0").iterdir())) > 5
