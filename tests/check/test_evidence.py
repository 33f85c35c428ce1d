"""A failed check keeps what it takes to see the failure again, and ``tvm-flow replay`` repeats it elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from tvm_flow.backends.cpu import codegen
from tvm_flow.check.evidence import EVIDENCE
from tvm_flow.check.replay import replay
from tvm_flow.cli import main
from tvm_flow.compile import command as compile_module
from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BitExactError, BuildError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec

pytestmark = pytest.mark.usefixtures("kernels_once")
OPTIONS = CompileOptions(threads=1, progress=False)


def failed_compile(exported: Exported, host: TargetSpec, output: Path) -> str:
    with pytest.raises((BitExactError, BuildError)) as caught:
        compile_bundle(exported, host, output, OPTIONS)
    assert not output.exists()
    return str(caught.value)


def the_folder(output: Path) -> Path:
    (folder,) = output.parent.glob(f"{output.name}.failed-*")
    return folder


def replay_elsewhere(*words: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, in which nothing is patched."""
    command = [sys.executable, "-m", "tvm_flow.cli", "replay", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ.copy())


def subtracting(function: Any) -> Any:
    """The Relax function with its sums made differences."""
    return tvm.ir.load_json(tvm.ir.save_json(function).replace("relax.add", "relax.subtract"))


@pytest.fixture(scope="module")
def broken(exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A compile whose float kernels compute something else, and the folder that it kept."""
    output = tmp_path_factory.mktemp("broken") / "b"
    real: Callable[..., Any] = codegen.to_prim_func
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegen, "to_prim_func", lambda function, name: real(subtracting(function), name))
        message = failed_compile(exported, host, output)
    return message, the_folder(output)


class TestWrongKernel:
    def test_the_message_names_the_folder_and_the_command(self, broken: tuple[str, Path]) -> None:
        message, folder = broken
        assert "The library must not ship" in message
        assert message.endswith(f"Kept in {folder}; repeat it: tvm-flow replay {folder}")

    def test_the_folder_has_module_kernel_arguments_and_versions(self, broken: tuple[str, Path]) -> None:
        message, folder = broken
        facts = json.loads((folder / EVIDENCE).read_text())
        assert message.startswith(facts["error"]) and f"kernel {facts['kernel']}" in facts["error"]
        assert facts["versions"].keys() >= {"tvm-flow", "apache-tvm", "ziglang", "python"}
        assert facts["command"] == sys.argv and facts["target"]["name"] == "host"
        assert "def main" in (folder / "module.txt").read_text()
        assert facts["kernel"] in (folder / "calls.txt").read_text()
        for name in ("kernel", "tir"):
            assert "def " in (folder / f"{name}.txt").read_text()
            assert tvm.ir.load_json((folder / f"{name}.json").read_text()) is not None
        got, expected = (np.load(folder / f"{name}.npz") for name in ("arguments", "expected"))
        assert np.abs(got[f"arr_{len(got.files) - 1}"] - expected["value"]).max() >= 0.5

    def test_a_replay_in_another_process_says_the_same(self, broken: tuple[str, Path]) -> None:
        message, folder = broken
        done = replay_elsewhere(folder)
        assert done.returncode == 2
        assert done.stderr.strip() == f"tvm-flow: {message.split('. Kept in ')[0]}"

    def test_lowered_again_by_a_right_compiler_it_passes(self, broken: tuple[str, Path]) -> None:
        _, folder = broken
        said = replay(folder, again=True)
        assert "is right on this machine for the arguments that were kept, with another output than then" in said

    def test_code_is_shown_on_request(self, broken: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
        _, folder = broken
        assert main(["replay", str(folder), "--again", "--tir", "--disassemble"]) == 0
        said = capsys.readouterr().out
        assert "@T.prim_func" in said and "__tvm_ffi_" in said and "ret" in said


class TestOtherFailures:
    def test_a_kernel_that_cannot_be_scheduled_is_kept(
        self, exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> Any:
            raise ValueError("no such loop")

        with monkeypatch.context() as patch:
            patch.setattr(codegen, "schedule_rows", refuse)
            message = failed_compile(exported, host, tmp_path / "b")
            folder = the_folder(tmp_path / "b")
            assert "TVM could not schedule it: no such loop" in message and f"tvm-flow replay {folder}" in message
            assert not (folder / "arguments.npz").exists() and (folder / "kernel.json").exists()
            with pytest.raises(BuildError, match="could not schedule it: no such loop"):
                replay(folder)
        assert "compiles now" in replay(folder)

    def test_a_wrong_constant_is_kept_and_its_kernel_is_right(
        self, exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The kernel computes what it should of what it was given."""
        from tvm_flow.check import sampling

        def other(*_: Any) -> None:
            raise BitExactError("constant w: element (0,): expected 1, got 2")

        monkeypatch.setattr(sampling, "check_traced", other)
        failed_compile(exported, host, tmp_path / "b")
        said = replay(the_folder(tmp_path / "b"))
        assert "with the same bits as then; what failed was: constant w" in said

    def test_what_is_no_kernels_fault_is_kept_without_one(
        self, exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tvm_flow.check import trajectory

        real = trajectory.evaluate_graph
        monkeypatch.setattr(trajectory, "evaluate_graph", lambda *args: 0.5 * real(*args))
        failed_compile(exported, host, tmp_path / "b")
        folder = tmp_path / "b.failed-generate"
        with pytest.raises(BitExactError, match=r"within 25 dB .*no one kernel failed"):
            replay(folder)

    def test_a_folder_of_somebody_elses_is_left_alone(
        self, exported: Exported, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "b.failed-generate"
        other.mkdir()
        (other / "notes").write_text("mine")

        def fail(*_: Any) -> Any:
            raise BitExactError("no")

        monkeypatch.setattr(compile_module, "run_checked", fail)
        assert failed_compile(exported, host, tmp_path / "b") == "no"
        assert [path.name for path in other.iterdir()] == ["notes"]

    def test_another_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"evidence\.json: expected a readable JSON file"):
            replay(tmp_path)
        (tmp_path / EVIDENCE).write_text('{"kernel": 3}')
        (tmp_path / "kernel.json").write_text("{}")
        with pytest.raises(ConfigError, match="expected what a failed compile kept"):
            replay(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("arguments.npz", b""),
            ("arguments.npz", b"PK\x03\x04 cut"),
            ("arguments.npz", b"\x93NUMPY\x01\x00"),
            ("kernel.json", b"{}"),
            ("kernel.json", b"[]"),
            ("kernel.json", b"\xff\xfe"),
            ("tir.json", b'{"root_index": 3, "nodes": []}'),
            ("evidence.json", b"[]"),
            ("evidence.json", b"3"),
        ],
    )
    def test_a_damaged_folder_is_one_line(
        self, broken: tuple[str, Path], tmp_path: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "copy"
        shutil.copytree(broken[1], folder)
        (folder / name).write_bytes(content)
        assert main(["replay", str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"tvm-flow: {folder}") and "; copy it again" in line

    def test_arguments_of_another_kernel_are_refused(self, broken: tuple[str, Path], tmp_path: Path) -> None:
        folder = tmp_path / "copy"
        shutil.copytree(broken[1], folder)
        np.savez(folder / "arguments.npz")
        with pytest.raises(ConfigError, match=r"arguments\.npz: expected \d arrays, those of the kernel, got 0"):
            replay(folder)
