"""File systems that are mounted noexec: the command says so before its work, not the loader after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.small_demo import SmallDemo

from tvm_flow import artifact
from tvm_flow.artifact import is_noexec, require_exec
from tvm_flow.errors import ConfigError
from tvm_flow.pipeline.stages import compile_stage
from tvm_flow.run import native

needs_mount = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    ).returncode
    != 0,
    reason="may not mount",
)


@pytest.fixture
def noexec(monkeypatch: pytest.MonkeyPatch) -> None:
    statvfs = os.statvfs

    def without_exec(path: str) -> SimpleNamespace:
        found = statvfs(path)
        sizes = {name: getattr(found, name) for name in ("f_frsize", "f_blocks", "f_bfree", "f_bavail")}
        return SimpleNamespace(f_flag=os.ST_NOEXEC, **sizes)

    monkeypatch.setattr(artifact.os, "statvfs", without_exec)


@needs_mount
def test_a_mount_says_that_it_is_noexec(tmp_path: Path) -> None:
    place = f"Path({str(tmp_path)!r}) / 'a' / 'b'"
    code = f"from pathlib import Path; from tvm_flow.artifact import is_noexec; print(is_noexec({place}))"
    for options, said in (("noexec,size=1m", "True"), ("size=1m", "False")):
        script = f'mount -t tmpfs -o {options} t {tmp_path} && {sys.executable} -c "{code}"'
        done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said


@pytest.mark.usefixtures("noexec")
def test_a_path_that_is_not_there_yet_counts_as_its_folder(tmp_path: Path) -> None:
    assert is_noexec(tmp_path / "a" / "b")
    with pytest.raises(ConfigError, match=r"b: expected a file system whose programs may run, .* mounted noexec"):
        require_exec(tmp_path / "a" / "b", "go")


@pytest.mark.usefixtures("noexec")
def test_compiling_for_this_machine_is_refused_before_the_work(demo: SmallDemo, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bundle: .*mounted noexec"):
        compile_stage(demo.exported.folder, "host", tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("noexec")
def test_the_runtimes_cache_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"")
    monkeypatch.setattr(native, "build_runtime", lambda: tmp_path / "lib.so")
    with pytest.raises(ConfigError, match=r"lib.so: .*mounted noexec.*TVM_FLOW_CACHE"):
        native.load_runtime()


def test_a_runtime_that_is_no_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"no ELF")
    monkeypatch.setattr(native, "build_runtime", lambda: tmp_path / "lib.so")
    with pytest.raises(ConfigError, match=r"lib.so: expected a library for this machine, got: .*delete it"):
        native.load_runtime()
