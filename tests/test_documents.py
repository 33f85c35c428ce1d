"""What the documents for readers and contributors name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tvm_flow.sources import PACKAGE

ROOT = PACKAGE.parent
CONTRIBUTING, README = ROOT / ".github" / "CONTRIBUTING.md", ROOT / "README.md"


def named_paths(document: Path) -> list[str]:
    """What stands between backticks and begins with a folder of the repository; NAME stands for a name."""
    folders = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())
    return [path for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", document.read_text()) if "NAME" not in path]


@pytest.mark.parametrize("document", [CONTRIBUTING, README, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    missing = [path for path in named_paths(document) if not (ROOT / path).exists()]
    assert not missing
    assert len(named_paths(document)) >= (20 if document == CONTRIBUTING else 0)


def test_the_readme_names_every_part_of_the_package() -> None:
    table = README.read_text().partition("## Where things are")[2].partition("\n## ")[0]
    parts = {path.name for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    parts = {part for part in parts if not part.startswith("_")}
    assert {part for part in parts if f"`{part}`" not in table and f"`tvm_flow/{part}`" not in table} == set()


def test_hooks_run_what_is_installed_and_download_nothing() -> None:
    (only,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert only["repo"] == "local"
    assert {hook["id"] for hook in only["hooks"]} == {"ruff", "ruff-format", "mypy"}
    assert {hook["language"] for hook in only["hooks"]} == {"system"}
