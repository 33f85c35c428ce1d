"""Listing, showing and detecting targets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tvm_flow.errors import ConfigError
from tvm_flow.target.board import Board, detect_board
from tvm_flow.target.inventory import LOCAL_NAME, detect_target, list_targets, show_target
from tvm_flow.target.spec import detect_host, load_target
from tvm_flow.target.target_names import require_target, targets_folder


def test_every_file_is_listed_with_its_cpu() -> None:
    lines = {line.split()[0]: line.split()[1:] for line in list_targets()}
    assert set(lines) == {path.stem for path in targets_folder().glob("*.yaml")}
    assert lines["raspberry-pi-5"] == ["cortex-a76", "dotprod", "fullfp16", "lse", "neon"]


def test_show_is_the_file_with_its_comments() -> None:
    assert show_target("rk3588") == (targets_folder() / "rk3588.yaml").read_text()
    with pytest.raises(ConfigError, match="target 'rk9': expected one of"):
        show_target("rk9")


def test_what_is_detected_loads_as_this_machine(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(detect_target())
    mine, host = load_target(str(tmp_path / "mine.yaml")), detect_host()
    assert mine.name == LOCAL_NAME
    assert (mine.triple, mine.cpu, mine.features, mine.disabled) == (
        *(host.triple, host.cpu, host.features, host.disabled),
    )
    assert mine.board.big >= 1
    assert show_target("host") == detect_target()
    assert yaml.safe_load(detect_target())["cores"]["big"] == mine.board.big


def make_cpus(folder: Path, capacities: list[int]) -> Path:
    for cpu, capacity in enumerate(capacities):
        for index, (level, kind, size) in enumerate([("1", "Data", f"{16 << (capacity > 500)}K")]):
            cache = folder / f"cpu{cpu}" / "cache" / f"index{index}"
            cache.mkdir(parents=True)
            for name, value in (("level", level), ("type", kind), ("size", size)):
                (cache / name).write_text(f"{value}\n")
        (folder / f"cpu{cpu}" / "cpu_capacity").write_text(f"{capacity}\n")
    return folder


def test_little_cores_are_told_from_big_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    board = detect_board(make_cpus(tmp_path, [300, 300, 1024, 1024]))
    assert (board.big, board.little, board.l1d_kib) == (2, 2, 32)


def test_a_machine_without_these_files_has_cores_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert detect_board(tmp_path / "absent") == Board(big=1, source="detected by tvm-flow targets detect")


def test_a_typing_error_is_answered_with_the_name_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"target 'raspbery-pi-5': .*; did you mean raspberry-pi-5"):
        require_target("raspbery-pi-5")
    with pytest.raises(ConfigError, match=r"target 'zzz': .* or a YAML file; choose one of them"):
        require_target("zzz")
    require_target("host")


@pytest.mark.parametrize("words", ["compile", "import net.onnx --output o", "targets show", "build b.yaml"])
def test_it_is_found_before_the_compiler_is_loaded(words: str, tmp_path: Path) -> None:
    code = (
        "import sys; from tvm_flow.cli import main; code = main(sys.argv[1:]);"
        "assert not {'tvm', 'torch'} & {*sys.modules}; sys.exit(code)"
    )
    (tmp_path / "b.yaml").write_text("{prompts: p, recipe: r, output: o, target: rasberry-pi-5}\n")
    options = {"targets show": ["rasberry-pi-5"], "build b.yaml": []}
    name = options.get(words, ["--target", "rasberry-pi-5"])
    command = [sys.executable, "-c", code, *words.split(), *name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and "did you mean raspberry-pi-5" in done.stderr, done.stderr
