"""The same bytes from every stage, whatever paths, threads, language, time zone and hash seed it runs with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.built_elsewhere import RECIPE
from support.tiny_fixtures import Compiler, Exporter

from tvm_flow.shipped import shipped_folder

CHECKOUT = shipped_folder("targets").parent
ELSEWHERE = {
    **{"OMP_NUM_THREADS": "3", "TVM_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    **{"LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"},
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by a copy of the package under another path, in another process and environment, private to its user."""
    place = tmp_path_factory.mktemp("else where") / "ä"
    copied = place / "copy"
    for name in ("tvm_flow", "targets", "calibration"):
        shutil.copytree(CHECKOUT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(CHECKOUT / "pyproject.toml", copied)
    (place / "temporary").mkdir()
    paths = {"PYTHONPATH": f"{copied}:{CHECKOUT / 'tests'}", "TMPDIR": f"{place / 'temporary'}"}
    subprocess.run(
        [sys.executable, "-m", "support.built_elsewhere", str(place / "built")],
        env=os.environ | ELSEWHERE | paths,
        cwd=place,
        umask=0o077,
        check=True,
    )
    assert not any((place / "temporary").iterdir())
    return place / "built"


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Of every file in ``folder``, stamps included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_stage_writes_the_same_bytes_elsewhere(exporter: Exporter, compiler: Compiler, elsewhere: Path) -> None:
    _, exported = exporter(RECIPE)
    folder = exported.folder.parent
    for name in ("ranges.safetensors", f"{RECIPE}.safetensors", f".{RECIPE}.safetensors.stamp.json"):
        assert (elsewhere / name).read_bytes() == (folder / name).read_bytes(), name
    for one, other in ((exported.folder, elsewhere / RECIPE), (compiler(RECIPE, "host").bundle, elsewhere / "bundle")):
        ours, theirs = bytes_of(one), bytes_of(other)
        assert ours.keys() == theirs.keys()
        assert not [name for name, data in ours.items() if theirs[name] != data]
