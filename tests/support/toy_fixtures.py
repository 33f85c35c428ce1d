"""Fixtures over the toy model, shared by the folders that test the runtime, the bundle and the binding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import toy_bundle
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.run import Bundle


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return toy_bundle.compile_groups(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def contents(libraries: tuple[Path, Path]) -> Contents:
    return toy_bundle.make_contents(libraries)


@pytest.fixture(scope="session")
def bundle_dir(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: copy it before changing it."""
    directory = tmp_path_factory.mktemp("bundles") / "toy.bundle"
    write_bundle(directory, contents)
    return directory


@pytest.fixture
def bundle(bundle_dir: Path) -> Iterator[Bundle]:
    """Opened with two threads."""
    with Bundle.open(bundle_dir, threads=2) as opened:
        yield opened
