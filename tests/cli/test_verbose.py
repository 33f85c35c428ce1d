"""-v says what stages decide, -vv how the C compiler was called; neither tears a progress bar."""

from __future__ import annotations

import io
import logging
import shutil
import sys
from pathlib import Path

import pytest
from support.small_demo import SmallDemo
from tqdm import tqdm

from tvm_flow.artifact import stamp_path
from tvm_flow.cli import main
from tvm_flow.cli.verbose import logged
from tvm_flow.pipeline.exporting import export_stage
from tvm_flow.toolchain.runtime_library import build_static_runtime

LOGGER = logging.getLogger("tvm_flow.some.module")


def said(capsys: pytest.CaptureFixture[str], verbosity: int) -> list[str]:
    with logged(verbosity):
        LOGGER.info("decided %s", "this")
        LOGGER.debug("called that")
    return capsys.readouterr().err.splitlines()


def test_levels_follow_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, 0) == []
    assert said(capsys, 1) == ["some.module: decided this"]
    assert said(capsys, 2) == ["some.module: decided this", "some.module: called that"]
    assert said(capsys, 9) == said(capsys, 2)


def test_a_finished_command_leaves_no_handler(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(logging.getLogger("tvm_flow").handlers)
    with pytest.raises(ValueError, match="x"), logged(2):
        raise ValueError("x")
    assert logging.getLogger("tvm_flow").handlers == before
    assert said(capsys, 0) == []


def test_a_line_and_a_progress_bar_do_not_share_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with logged(1), tqdm(total=2, desc="bar", file=screen, mininterval=0) as bar:
        bar.update()
        LOGGER.info("decided this")
        bar.update()
    lines = [part for line in screen.getvalue().split("\n") for part in line.split("\r")]
    assert "some.module: decided this" in lines, "the bar is taken off before, and drawn again below"


@pytest.mark.parametrize("command", ["compile", "run", "targets", "demo"])
def test_every_command_takes_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "--verbose" in capsys.readouterr().out


def test_commands_run_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "list", "-vv"]) == 0
    assert "raspberry-pi-4" in capsys.readouterr().out


class TestWhatIsSaid:
    def test_a_current_output_and_why_another_is_made(
        self, demo: SmallDemo, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "export"
        shutil.copytree(demo.folder / "export", folder)
        with caplog.at_level(logging.INFO, "tvm_flow"):
            export_stage(demo.source, demo.quantized, demo.prompts, folder, range(1, 2))
            assert f"{folder}: made, since it has no stamp" in caplog.text
            export_stage(demo.source, demo.quantized, demo.prompts, folder, range(1, 2))
            assert f"{folder}: current, nothing to do" in caplog.text
            export_stage(demo.source, demo.quantized, demo.prompts, folder, range(2))
            assert f"{folder}: made again, since its options changed" in caplog.text
            stamp_path(folder).write_text("{")
            export_stage(demo.source, demo.quantized, demo.prompts, folder, range(2))
            assert f"{folder}: made again, since its stamp cannot be read" in caplog.text

    def test_a_runtime_from_the_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("TVM_FLOW_CACHE", str(tmp_path))
        triple = "x86_64-linux-musl"
        with caplog.at_level(logging.INFO, "tvm_flow"):
            path = build_static_runtime(triple)
            # Before it, zig may have built a C library, which is said once on a machine.
            assert caplog.messages[-1] == f"runtime for {triple}: compiled into {path}"
            caplog.clear()
            build_static_runtime(triple)
            assert caplog.messages == [f"runtime for {triple}: from the cache, {path}"]
