"""Opening: what is checked first, who may open at once, and what an error holds on to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import toy_bundle

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, write_bundle
from tvm_flow.run import Bundle


def open_descriptors() -> set[str]:
    return {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


def mapped(directory: Path) -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(directory) in line]


def test_a_path_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json: expected a readable JSON file, got: .*check the bundle's"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(
        BundleError, match=r"got: nothing, since there is no folder .*nowhere; make a bundle \(tvm-flow"
    ):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"got: a folder that holds none; make a bundle") as caught:
        Bundle.open(tmp_path)
    assert "Errno" not in str(caught.value)


def test_another_machine_is_named(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(BundleError, match="expected a library for aarch64, got one for x86_64"):
        Bundle.open(bundle_dir)


def test_a_relative_path_and_odd_letters(bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bundle_dir, tmp_path / "élan vital %s")
    monkeypatch.chdir(tmp_path)
    with Bundle.open(Path("élan vital %s")) as opened:
        opened.verify()
    monkeypatch.chdir(tmp_path / "élan vital %s")
    with Bundle.open(Path()) as opened:
        opened.verify()


def test_closing_lets_go_of_everything(bundle_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_dir, tmp_path / "b")
    before = open_descriptors()
    with Bundle.open(tmp_path / "b", threads=3):
        assert mapped(tmp_path / "b")
        held = sorted(open_descriptors() - before)
        assert held == ["/memfd:group0.so (deleted)", "/memfd:group1.so (deleted)"], "maps outlive their descriptors"
    assert open_descriptors() == before and not mapped(tmp_path / "b")


def test_a_failed_open_lets_go_of_everything(tmp_path: Path, contents: Contents) -> None:
    library = toy_bundle.compile_group(tmp_path / "bad.so", num_inputs=2)
    groups = [contents.groups[0], replace(contents.groups[1], library=library)]
    write_bundle(tmp_path / "b", replace(contents, groups=groups))
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(BundleError, match=r"group1[.]so: inputs 2: expected three"):
            Bundle.open(tmp_path / "b")
    assert open_descriptors() == before and not mapped(tmp_path / "b")


def test_two_processes_may_build_the_runtime_at_once(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from tvm_flow.toolchain.runtime_library import build_runtime; print(build_runtime())",
    ]
    environment = {**os.environ, "TVM_FLOW_CACHE": str(tmp_path)}
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    paths = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert len(paths) == 1 and [process.returncode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["libtvm_flow.so"]
