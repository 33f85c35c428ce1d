"""Help of the benches costs nothing: no installation, no import of what they measure with."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tvm_flow.bench.__main__ import NAMES
from tvm_flow.bench.usage import usage

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What help reads, and a setup that must not run."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "tvm_flow" / "bench", folder / "tvm_flow" / "bench")
    shutil.copy(ROOT / "tvm_flow" / "__init__.py", folder / "tvm_flow")
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "bench", folder / "scripts")
    (folder / "scripts" / "setup").write_text("#!/bin/sh\nexit 97\n")
    (folder / "scripts" / "setup").chmod(0o755)
    return folder


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], *([name, "--help"] for name in NAMES)])
def test_help_installs_nothing(checkout: Path, words: list[str]) -> None:
    command = [str(checkout / "scripts" / "bench"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, ""), words
    assert "scripts/bench" in done.stdout


def test_a_bench_itself_sets_up_first(checkout: Path) -> None:
    assert subprocess.run([str(checkout / "scripts" / "bench"), "size"], check=False).returncode == 97


def test_every_bench_is_listed() -> None:
    lines = usage(None).splitlines()[2:]
    assert tuple(line.split()[0] for line in lines) == NAMES
    assert all(len(line.split()) > 4 for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_it_tells_the_options_that_a_bench_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(f"tvm_flow.bench.{name}").main(["--help"])
    taken = {word.strip(",]") for word in capsys.readouterr().out.replace("[", " ").split() if word.startswith("--")}
    said = {line.split()[0] for line in usage(name).splitlines() if line.startswith("  --")}
    assert said == taken - {"--help"}
