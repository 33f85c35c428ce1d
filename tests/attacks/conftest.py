"""Fixtures of the attacks: the toy bundle to damage, and the programs that open it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from support.attack_programs import Attack, attack_with


@pytest.fixture(scope="session")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Attack:
    return partial(attack_with, tmp_path_factory.mktemp("attack"))


@pytest.fixture
def victim(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle to damage."""
    shutil.copytree(bundle_dir, tmp_path / "b")
    return tmp_path / "b"
