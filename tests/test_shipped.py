"""Where the package finds what ships with it, and where it writes, from a checkout and installed."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from tvm_flow import shipped


def test_a_checkout_has_its_own_folders() -> None:
    assert shipped.is_checkout()
    assert (shipped.shipped_folder("targets") / "armv8-a.yaml").is_file()
    assert shipped.output_folder() == Path("artifacts/demo")


def test_an_installed_package_writes_into_the_folder_that_it_is_run_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shipped, "_CHECKOUT", tmp_path)
    assert shipped.shipped_folder("targets") == Path(sysconfig.get_path("data")) / "share" / "tvm-flow" / "targets"
    assert shipped.output_folder() == Path("tvm-flow-demo")
