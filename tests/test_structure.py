"""The shape of the package: imports follow the flow, functions take few parameters, files are short."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tvm_flow.sources import PACKAGE, imported_modules, package_modules

FLOW = (
    *("causes", "errors", "limits", "numerics", "shipped", "sources", "documents", "scratch", "artifact"),
    *("folders", "fields", "room", "cluster"),
    *("model", "sampler", "demo", "opensora", "calibrate", "quantize", "export"),
    *("graph", "importer", "lower", "target", "toolchain", "backends", "plan", "pack", "run"),
    *("check", "tune", "profile", "compile"),
    *("quality", "train", "pipeline", "doctor", "cli", "bench"),
)
"""What a part may import stands to its left: data goes one way, so a stage is read, tested and replaced without those
that come after it, and its outputs are made again only when something that it can reach has changed."""

MOST_PARAMETERS, MOST_LINES = 6, 350
VENDORED = PACKAGE / "runtime" / "signature" / "monocypher"
"""Others' code, unmodified: what has been looked through elsewhere stays what it is."""

# These lists may only shrink: an entry that no longer holds fails the test, as does an offender that is not listed.
LONG_PARAMETER_LISTS: set[str] = set()
REPEATED_NAMES = {
    *("config.py", "decoder.py", "identity.py", "layers.py", "names.py", "stages.py", "stdit.py", "stdit3.py"),
    *("step.py", "tables.py", "trajectory.py", "write.py"),
}
NAMES_OF_EVERY_FOLDER = {"__init__.py", "__main__.py", "base.py", "conftest.py", "CMakeLists.txt", "README.md"}

MODULES = package_modules()


@cache
def nodes(module: str) -> list[ast.AST]:
    """Of its source, read once."""
    return list(ast.walk(ast.parse(MODULES[module].read_text())))


def part(module: str) -> str:
    """``tvm_flow.plan.arena`` -> ``plan``; the root package, which holds the version, has none."""
    return module.partition(".")[2].partition(".")[0]


def place(module: str) -> int:
    return FLOW.index(part(module)) if part(module) else -1


def sources_of(tree: Path) -> list[Path]:
    return sorted(path for suffix in ("py", "c", "cc", "h") for path in tree.rglob(f"*.{suffix}"))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [each.arg for each in named if each is not None and each.arg not in ("self", "cls")]


def functions(module: str) -> Iterator[tuple[str, list[str]]]:
    """(name, parameters) of every function, method, inner function and lambda."""
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}.{node.name}", parameters(node)
        elif isinstance(node, ast.Lambda):
            yield f"{module}.lambda@{node.lineno}", parameters(node)


def test_the_flow_names_every_part_of_the_package() -> None:
    """A new part has to be given its place."""
    assert {part(module) for module in MODULES} - {""} == set(FLOW)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_with_the_flow(module: str) -> None:
    """Inside functions and under TYPE_CHECKING too: what a module names, its reader has to know."""
    against = {other for other in imported_modules(module) if place(other) > place(module)}
    assert not against, f"{module} comes before what it imports: {sorted(against)}"


def test_imports_are_absolute() -> None:
    """A relative one is not seen by what reads them, here and for stamps."""
    relative = [m for m in MODULES for node in nodes(m) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative


def test_no_modules_import_each_other() -> None:
    try:
        TopologicalSorter({module: imported_modules(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' <- '.join(error.args[1])}")


def test_functions_take_at_most_six_parameters() -> None:
    long = {name for module in MODULES for name, given in functions(module) if len(given) > MOST_PARAMETERS}
    assert long == LONG_PARAMETER_LISTS, "join what belongs together into a named record; take settled names off"


def test_files_are_short() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in sources_of(PACKAGE) if VENDORED not in path.parents}
    assert not {str(path): count for path, count in lines.items() if count > MOST_LINES}


def test_no_folder_is_called_build() -> None:
    """Tools and ignore files take it for generated output."""
    assert not [path for path in PACKAGE.rglob("build") if path.is_dir()]


def trees() -> list[Path]:
    """Backends answer the same questions, so each has files of the same names and is a tree of its own."""
    return [PACKAGE, *(path for path in (PACKAGE / "backends").iterdir() if path.is_dir()), Path(__file__).parent]


def test_a_file_name_says_which_file_it_is() -> None:
    repeated = set()
    for tree in trees():
        inner = [other for other in trees() if other != tree and other.is_relative_to(tree)]
        own = [path for path in sources_of(tree) if not any(path.is_relative_to(other) for other in inner)]
        repeated |= {name for name, count in Counter(path.name for path in own).items() if count > 1}
    assert repeated - NAMES_OF_EVERY_FOLDER == REPEATED_NAMES
