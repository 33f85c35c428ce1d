"""Fixtures of the attacks: the toy bundle to damage, and the programs that open it."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "runtime")]

from attack_programs import Attack, attack_with  # noqa: E402
from toy_fixtures import bundle, bundle_dir, contents, libraries  # noqa: E402

__all__ = ["bundle", "bundle_dir", "contents", "libraries"]


@pytest.fixture(scope="session")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Attack:
    return partial(attack_with, tmp_path_factory.mktemp("attack"))


@pytest.fixture
def victim(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle to damage."""
    shutil.copytree(bundle_dir, tmp_path / "b")
    return tmp_path / "b"
