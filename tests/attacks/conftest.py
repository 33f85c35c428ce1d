"""Fixtures of the attacks: the toy bundle to damage, and the programs that open it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from support.attack_programs import Attack, attack_with
from support.sanitized import SANITIZERS


@pytest.fixture(scope="session")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Attack:
    return partial(attack_with, tmp_path_factory.mktemp("attack"))


@pytest.fixture(scope="session", params=SANITIZERS)
def attack_with_threads(
    request: pytest.FixtureRequest, attack: Attack, tmp_path_factory: pytest.TempPathFactory
) -> Attack:
    """`attack`, and the same under ThreadSanitizer, for programs of several threads.

    The others have one, or a bundle so damaged that it is refused before the handle's threads are started.
    """
    if request.param == "address":
        return attack
    return partial(attack_with, tmp_path_factory.mktemp("threads"), sanitizer=SANITIZERS[request.param])


@pytest.fixture
def victim(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle to damage."""
    shutil.copytree(bundle_dir, tmp_path / "b")
    return tmp_path / "b"
