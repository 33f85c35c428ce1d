"""Ctrl-C, for real: a SIGINT to a running command leaves whole files only, and the next run goes on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_demo import PROMPT, SmallDemo

from tvm_flow.calibrate import load_ranges
from tvm_flow.cli import main

# A shell that starts tests in the background lets its children ignore SIGINT; a person's terminal does not.
# The signal comes when a progress bar has reached a count, however busy the machine is and whatever is drawn.
_COMMAND = """
import os, signal, sys, tqdm
signal.signal(signal.SIGINT, signal.default_int_handler)
bar, count = sys.argv[1], int(sys.argv[2])

class Interrupting(tqdm.tqdm):
    def __iter__(self):
        for item in self.iterable:
            yield item
            self.update()
        self.close()

    def update(self, n=1):
        super().update(n)
        if self.desc == bar and self.n >= count:
            os.kill(os.getpid(), signal.SIGINT)

tqdm.tqdm = Interrupting
from tvm_flow.cli import main
sys.exit(main(sys.argv[3:]))
"""


def interrupt(words: list[str], bar: str, count: int) -> tuple[int, str]:
    """Run a command that gets SIGINT when ``bar`` has counted to ``count``; its exit code and last line on stderr."""
    command = [sys.executable, "-c", _COMMAND, bar, str(count), *words]
    done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, check=False)
    text = done.stderr.decode()
    assert "Traceback" not in text, text
    return done.returncode, re.split(r"[\r\n]", text.strip())[-1]


def interrupt_when(words: list[str], when: str) -> tuple[int, str]:
    """The same, once what it shows matches ``when``: for a signal in the midst of what counts nothing."""
    command = [sys.executable, "-c", _COMMAND, "", "0", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        seen = b""
        while not re.search(when.encode(), seen):
            more = process.stderr.read1(4096)  # type: ignore[attr-defined]
            assert more, f"ended before {when!r}: {seen.decode()}"
            seen += more
        process.send_signal(signal.SIGINT)
        seen += process.stderr.read()
    text = seen.decode()
    assert "Traceback" not in text, text
    return process.returncode, re.split(r"[\r\n]", text.strip())[-1]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_calibrate_keeps_finished_steps(demo: SmallDemo, tmp_path: Path) -> None:
    """Interrupted in the first steps of a second prompt, on top of a file with one."""
    output, prompts = tmp_path / "ranges.safetensors", tmp_path / "prompts.yaml"
    output.write_bytes(demo.ranges.read_bytes())
    prompts.write_text("prompts: [a red sneaker moving left, red bag going up]\n")
    code, line = interrupt(["calibrate", "--prompts", str(prompts), "--output", str(output)], "calibrate", 23)
    assert code == 130
    partial = tmp_path / ".ranges.safetensors.partial"
    told = re.fullmatch(
        r"tvm-flow: calibrate: interrupted after 1 of 2 prompts and (\d+) of 20 steps of the next; "
        rf"{output} and {partial} hold them; run the same command again to go on",
        line,
    )
    assert told and int(told[1]) == 3, line
    assert files(tmp_path) == {"ranges.safetensors", "prompts.yaml", partial.name}
    assert output.read_bytes() == demo.ranges.read_bytes()
    assert len(load_ranges(output).prompts) == 1


def test_export_leaves_a_folder_that_is_known_to_be_unfinished(
    demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "export"
    words = ["--quantized", str(demo.quantized), "--prompts", str(demo.prompts), "--output", str(output)]
    code, line = interrupt(["export", *words], "export", 3)
    assert (code, line) == (130, "tvm-flow: interrupted; nothing half-written is left, run the same command again")
    assert "export/export.json" not in files(tmp_path)
    assert not [name for name in files(tmp_path) if name.endswith(".tmp")]
    assert main(["compile", "--export", str(output), "--output", str(tmp_path / "bundle")]) == 2
    assert "expected a finished export" in capsys.readouterr().err
    assert main(["export", *words]) == 0
    assert "export/export.json" in files(tmp_path)


def test_compile_leaves_nothing(demo: SmallDemo, tmp_path: Path) -> None:
    """In the middle of LLVM's work, where Python's handler has to wait for it."""
    words = ["compile", "--export", str(demo.folder / "export"), "--output", str(tmp_path / "bundle")]
    code, line = interrupt_when(words, r"compile steps:.* 0/1 .*machine code")
    assert (code, line) == (130, "tvm-flow: interrupted; nothing half-written is left, run the same command again")
    assert files(tmp_path) == set()


def test_run_leaves_no_video_and_goes_on_in_the_same_folder(demo: SmallDemo, tmp_path: Path) -> None:
    words = ["run", PROMPT, "--bundle", str(demo.compiled.bundle), "--output", str(tmp_path / "v"), "--threads", "1"]
    code, line = interrupt([*words, "--count", "500"], "generate", 5)
    assert (code, line) == (130, "tvm-flow: interrupted; nothing half-written is left, run the same command again")
    assert files(tmp_path) == set()
    assert main(words) == 0
