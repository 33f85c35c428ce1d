"""A stage's sources are those that it can reach, and only what Python sees of them counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_flow.sources import imported_modules, package_modules, reached_modules, sources_sha256

FILES = {
    "__init__.py": '"""The flow."""\n',
    "errors.py": "class Wrong(Exception): ...\n",
    "sums.py": "def total(values):\n    return sum(values)  # exact\n",
    "stage/__init__.py": "from flow.stage.job import work\n",
    "stage/job.py": "from flow import sums\nfrom flow.errors import Wrong\n\ndef work():\n    return sums.total(1)\n",
    "bench.py": "def run():\n    from flow.stage import work\n    return work()\n",
    "toolchain/__init__.py": "",
    "link.py": "from typing import TYPE_CHECKING\nimport flow.stage\nif TYPE_CHECKING:\n    import flow.toolchain\n",
    "runtime/run.c": "int x;\n",
    "notes.txt": "no source\n",
}
STAGE, LINK = "flow.stage.job", "flow.link"


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of `FILES` with changes, since what was read once is not read again."""

    def make(**changes: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) / "flow"
        for name, text in (FILES | changes).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return folder

    return make


def test_every_way_to_import_is_seen(package: Callable[..., Path]) -> None:
    folder = package()
    assert set(package_modules(folder)) == {
        *("flow", "flow.errors", "flow.sums", "flow.stage", "flow.stage.job", "flow.bench", "flow.link"),
        "flow.toolchain",
    }
    assert imported_modules(STAGE, folder) == {"flow.sums", "flow.errors"}, "a module and a class"
    assert imported_modules("flow.stage", folder) == {STAGE}
    assert imported_modules("flow.bench", folder) == {"flow.stage"}, "inside a function"
    assert imported_modules(LINK, folder) == {"flow.stage", "flow.toolchain"}, "for types alone, too"


def test_what_is_reached_includes_the_packages_on_the_way(package: Callable[..., Path]) -> None:
    assert reached_modules(STAGE, package()) == {"flow", "flow.stage", STAGE, "flow.sums", "flow.errors"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sums.py", FILES["sums.py"].replace("sum(", "max(")),
        ("errors.py", "class Wrong(ValueError): ...\n"),
        ("stage/__init__.py", FILES["stage/__init__.py"] + "work = None\n"),
        ("__init__.py", "x = 1\n"),
        ("stage/job.py", FILES["stage/job.py"].replace("(1)", "('1')")),
    ],
)
def test_what_a_stage_can_reach_makes_it_again(package: Callable[..., Path], file: str, text: str) -> None:
    assert sources_sha256(STAGE, package(**{file: text})) != sources_sha256(STAGE, package())


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bench.py", "def run():\n    return 1\n"),
        ("link.py", ""),
        ("runtime/run.c", "int y;\n"),
        ("notes.txt", "other\n"),
        ("new.py", "x = 1\n"),
        ("sums.py", 'def total(values):\n    """Exact."""\n\n    return (sum(values))\n'),
        ("__init__.py", "# Nothing.\n"),
    ],
)
def test_what_it_cannot_reach_and_what_python_ignores_do_not(
    package: Callable[..., Path], file: str, text: str
) -> None:
    assert sources_sha256(STAGE, package(**{file: text})) == sources_sha256(STAGE, package())


def test_c_counts_where_the_compiler_is_reached(package: Callable[..., Path]) -> None:
    plain = sources_sha256(LINK, package())
    assert sources_sha256(LINK, package(**{"runtime/run.c": "int x; // a comment\n"})) != plain
    assert sources_sha256(LINK, package(**{"runtime/new.h": ""})) != plain
    assert sources_sha256(LINK, package(**{"runtime/LICENSE": "other terms"})) != plain, "a bundle brings it"


class TestThisPackage:
    def test_a_quantized_model_depends_on_the_arithmetic_and_not_on_what_comes_after(self) -> None:
        reached = reached_modules("tvm_flow.quantize.build")
        assert {"tvm_flow.numerics.quantize", "tvm_flow.calibrate.ranges", "tvm_flow.model.stdit3"} <= reached
        later = ("bench", "cli", "export", "compile", "run", "pipeline", "check", "toolchain")
        assert not [name for name in reached if name.split(".")[1:2] and name.split(".")[1] in later]

    def test_a_bundle_depends_on_its_check_and_on_the_runtime_but_not_on_benches(self) -> None:
        reached = reached_modules("tvm_flow.compile.command")
        assert {"tvm_flow.toolchain", "tvm_flow.check.calls", "tvm_flow.numerics.operators"} <= reached
        assert not [name for name in reached if name.startswith(("tvm_flow.bench", "tvm_flow.cli"))]

    def test_no_stage_imports_a_module_of_the_package_by_a_computed_name(self) -> None:
        """It would not be seen. The first loads other packages, the second is no stage."""
        computed = {name for name, path in package_modules().items() if "import_module(" in path.read_text()}
        assert computed == {"tvm_flow.opensora.extra", "tvm_flow.bench.__main__"}
