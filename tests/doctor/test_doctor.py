"""What doctor says of packages, programs, Vulkan, disks and boards that are absent, of another version or broken."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tvm_flow import doctor
from tvm_flow.cli import main
from tvm_flow.doctor import boards, devices_found, programs
from tvm_flow.doctor.finding import Finding, Status
from tvm_flow.doctor.machine import machine_findings
from tvm_flow.doctor.packages import EXTRAS, PAIR, USES, extra_findings, package_findings, python_finding
from tvm_flow.doctor.pins import Pin, Pins, pins_of_metadata, read_pins, within
from tvm_flow.doctor.tried import Tried, try_command, try_python
from tvm_flow.errors import ConfigError
from tvm_flow.sources import PACKAGE
from tvm_flow.tune.board_address import Board

LINES = [
    *("apache-tvm==0.27.0.post1", "apache-tvm-ffi==0.1.14.post1", "numpy<3,>=2"),
    *('dask-like>=2025.1; extra == "cluster"', "tvm-flow[cluster]; extra == 'test'", "types-PyYAML; extra == 'test'"),
]


def put_package(folder: Path, name: str, version: str, code: str = "") -> None:
    """An installed package of these metadata, whose module does ``code``."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / f"{USES[name][0] if name in USES else name}.py").write_text(code)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first for this process and for those that it starts."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


class TestPins:
    @pytest.mark.parametrize(
        ("version", "asked", "good"),
        [
            *(("2.13.0+cpu", "==2.13.0", True), ("2.13.1", "==2.13.0", False), ("0.1.14", "==0.1.14.post1", False)),
            *(("0.1.14.post1", "==0.1.14.post1", True), ("1.9", ">=1.21,<1.24", False), ("1.21", ">=1.21,<1.24", True)),
            *(("1.24.0", ">=1.21,<1.24", False), ("1.24rc1", "<1.24", True), ("3.0.0rc1", ">=3", False)),
            *(("2026.8.0", ">=2025.1,<2027", True), ("7", "", True), ("2.0", "==2", True)),
        ],
    )
    def test_versions_are_compared_as_pip_does(self, version: str, asked: str, good: bool) -> None:
        assert within(version, asked) is good

    def test_an_unknown_comparison_is_refused_and_an_odd_version_is_not_met(self) -> None:
        with pytest.raises(ConfigError, match="expected one of == "):
            within("2.0", "~=2.0")
        assert not Pin("numpy", ">=2").met_by("of today")

    def test_metadata_and_pyproject_say_the_same(self) -> None:
        pins = pins_of_metadata(LINES, ">=3.11")
        assert [str(pin) for pin in pins.required] == LINES[:3]
        assert pins.extras == {"cluster": (Pin("dask-like", ">=2025.1"),), "test": (Pin("types-PyYAML", ""),)}
        project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
        assert [str(pin) for pin in read_pins().required] == project["dependencies"]

    def test_every_package_that_is_asked_for_has_its_use(self) -> None:
        pins = read_pins()
        assert {pin.name for pin in pins.required} == set(USES)
        assert set(EXTRAS) <= set(pins.extras)
        for pin in [*pins.required, *(pin for extra in pins.extras.values() for pin in extra)]:
            assert not pin.asked or not pin.met_by("0.0.0")  # every pin can be read, and none takes anything


class TestPackages:
    def test_the_pair_comes_first_and_is_mended_together(self, packages: Path) -> None:
        put_package(packages, "numpy", "2.4.0")
        put_package(packages, "apache-tvm", "0.27.0.post1")
        put_package(packages, "apache-tvm-ffi", "0.1.20")
        pins = pins_of_metadata(LINES[::-1], ">=3.11")
        found = list(package_findings(pins))
        assert {each.name for each in found[:2]} == set(PAIR) and found[2].name == "numpy"
        by_name = {each.name: each for each in found}
        ffi = by_name["apache-tvm-ffi"]
        assert (ffi.status, ffi.found) == (Status.WRONG, "0.1.20, expected ==0.1.14.post1")
        assert "install apache-tvm-ffi==0.1.14.post1 apache-tvm==0.27.0.post1" in ffi.mend
        assert ffi.fatal and by_name["apache-tvm"].status is by_name["numpy"].status is Status.OK

    def test_an_import_that_crashes_or_raises_is_told_from_a_version(self, packages: Path) -> None:
        put_package(packages, "torch", "2.13.0", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
        put_package(packages, "onnx", "1.23.0", "raise ImportError('no libprotobuf')")
        torch, onnx = package_findings(Pins("", (Pin("torch", "==2.13.0"), Pin("onnx", ">=1.21")), {}))
        assert torch.found == "2.13.0, but import torch: killed by SIGSEGV" and torch.status is Status.WRONG
        assert onnx.found.endswith("ImportError: no libprotobuf") and "--force-reinstall" in onnx.mend

    def test_what_is_not_installed_is_missing(self) -> None:
        (found,) = package_findings(Pins("", (Pin("xgboost-of-nobody", ">=3"),), {}))
        assert (found.status, found.found) == (Status.MISSING, "none, of >=3")

    def test_an_extra_names_what_it_lacks(self, packages: Path) -> None:
        put_package(packages, "old-one", "1.0")
        pins = Pins(
            "",
            (),
            {
                **{"opensora": (Pin("old-one", ">=2"),), "cluster": (Pin("none-such", ">=1"),)},
                **dict.fromkeys(("npu-arm", "npu-qualcomm", "metrics"), ()),
            },
        )
        found = {each.name: each for each in extra_findings(pins)}
        opensora, cluster, npu = (found[f"extra {name}"] for name in ("opensora", "cluster", "npu-arm"))
        assert (opensora.status, opensora.found) == (Status.WRONG, "old-one 1.0")
        assert (cluster.status, cluster.found) == (Status.MISSING, "none-such none")
        assert npu.status is Status.OK and not cluster.fatal
        assert cluster.mend == f"{sys.executable} -m pip install 'none-such>=1'"

    def test_another_python_is_wrong(self) -> None:
        assert python_finding(Pins(">=3.99", (), {})).fatal
        assert python_finding(Pins(f"=={platform.python_version()}", (), {})).status is Status.OK


class TestMachine:
    def test_programs_are_looked_for_on_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tool = tmp_path / "llvm-mca-19"
        tool.write_text("#!/bin/sh\n")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(programs, "try_command", lambda _: Tried(False, "No module named ziglang"))
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        found = {each.name: each for each in programs.program_findings()}
        assert found["llvm-mca"].status is Status.MISSING  # no program: it cannot be executed
        assert found["qemu-aarch64"].mend == "sudo apt-get install qemu-user-static"
        assert found["glslangValidator"].status is found["spirv-val"].status is Status.MISSING
        assert found["C compiler"].fatal and not found["qemu-aarch64"].fatal
        tool.chmod(0o755)
        (again,) = (each for each in programs.program_findings() if each.name == "llvm-mca")
        assert (again.status, again.found) == (Status.OK, str(tool))

    def test_no_loader_means_no_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TVM_FLOW_VULKAN_LOADER", "libvulkan_of_nobody.so")
        loader, device = devices_found.vulkan_findings()
        assert loader.status is device.status is Status.MISSING
        assert "libvulkan_of_nobody.so" in loader.found and not loader.fatal

    def test_a_folder_that_cannot_be_written_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        *_, disk = machine_findings(tmp_path / "file" / "artifacts")
        assert disk.fatal and "is no folder" in disk.found
        *_, disk = machine_findings(tmp_path / "artifacts")
        assert disk.status is Status.OK and not (tmp_path / "artifacts").exists()

    @pytest.mark.parametrize(
        ("answer", "status"),
        [
            (Tried(True, "other: 1 free, 0 waiting\nrpi5: 1 free, 0 waiting"), Status.OK),
            (Tried(True, "rpi5: 0 free, 1 waiting"), Status.WRONG),
            (Tried(True, "rpi: 1 free, 0 waiting"), Status.MISSING),
            (Tried(False, "tracker localhost:9190: refused"), Status.MISSING),
        ],
    )
    def test_a_board_is_asked_of_its_tracker(
        self, answer: Tried, status: Status, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(boards, "try_python", lambda *_: answer)
        found = boards.board_finding(Board("localhost", 9190, "rpi5"))
        assert found.status is status and found.fatal is (status is not Status.OK)
        assert ("rpc_server" if answer.good else "rpc_tracker") in found.mend

    def test_what_is_tried_cannot_hang_or_be_absent(self) -> None:
        assert try_command(["/nowhere/program"]) == Tried(False, "cannot be started: No such file or directory")
        assert try_command([sys.executable, "-c", "input()\nprint(1)"]).words == "EOFError: EOF when reading a line"
        slow = try_command([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
        assert slow == Tried(False, "no answer in 0.2 s")
        assert try_python("import tvm_flow.doctor, sys; print(sys.argv[1])", "word") == Tried(True, "word")


class TestCommand:
    def test_it_needs_no_package(self) -> None:
        """Without any: -S leaves site-packages out."""
        code = "import tvm_flow.doctor, tvm_flow.doctor.boards, tvm_flow.cli.parser as p; p.make_parser()"
        command = [sys.executable, "-S", "-c", code]
        done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("required", [True, False])
    def test_only_what_is_required_makes_it_fail(
        self, required: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        good = Finding("numpy", Status.OK, "2.4.6", "every command", required=True)
        bad = Finding("torch", Status.MISSING, "none, of ==2.13.0", "export", "pip install torch==2.13.0", required)
        monkeypatch.setattr(doctor, "examine", lambda _: iter([good, bad]))
        for words in (["doctor"], ["doctor", "--json"]):
            if required:
                with pytest.raises(SystemExit) as end:
                    main(words)
                assert end.value.code == 1
            else:
                assert main(words) == 0
        *lines, last = capsys.readouterr().out.splitlines()
        assert lines[0] == "ok       numpy: 2.4.6" and lines[1] == "missing  torch: none, of ==2.13.0"
        assert lines[2].endswith("needed by: export") and lines[3] == "         mend: pip install torch==2.13.0"
        assert lines[4].startswith(
            "required and not in order: torch" if required else "all that is required is in order"
        )
        told = json.loads(last)
        assert told["ok"] is not required and [each["status"] for each in told["findings"]] == ["ok", "missing"]

    def test_a_malformed_board_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", "--board", "rpi5"]) == 2
        assert "expected HOST:PORT/KEY" in capsys.readouterr().err
