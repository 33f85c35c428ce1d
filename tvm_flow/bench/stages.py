"""The stages of a build as the commands that a user runs, each in a process of its own, timed and weighed.

``peak_mb`` is the process's largest resident set, see `tvm_flow.bench.weighed`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.bench.models import Inputs
from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.target_names import targets_folder

STDERR = 2
"""File descriptor: stdout is for the bench's own line."""
RECIPE = targets_folder().parent / "calibration" / "recipes" / "w8a8.yaml"


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds and peak memory of one command."""

    seconds: float
    peak_mb: float

    def rounded(self) -> dict[str, float]:
        """For a JSON line."""
        return {"seconds": round(self.seconds, 1), "peak_mb": round(self.peak_mb)}


def stage_commands(inputs: Inputs, folder: Path, threads: int) -> dict[str, list[str]]:
    """Arguments of ``tvm-flow`` for every stage, which reads what the one before has written in ``folder``."""
    latent = ",".join(str(size) for size in inputs.latent)
    source = ["--model", inputs.checkpoint, "--sampler", inputs.sampler, "--latent", latent, "--captions"]
    source.append(inputs.captions)
    ranges, quantized, export = folder / "ranges.safetensors", folder / "quantized.safetensors", folder / "export"
    commands: dict[str, Sequence[object]] = {
        "inspect": ["inspect", inputs.checkpoint],
        "calibrate": ["calibrate", *source, "--prompts", inputs.prompts, "--output", ranges],
        "quantize": ["quantize", *source, "--ranges", ranges, "--recipe", RECIPE, "--output", quantized],
        "export": ["export", *source, "--quantized", quantized, "--prompts", inputs.prompts, "--output", export],
        "compile": ["compile", "--export", export, "--output", folder / "bundle", "--threads", threads],
    }
    return {name: [str(argument) for argument in arguments] for name, arguments in commands.items()}


def run_stage(arguments: Sequence[str]) -> Cost:
    """Run one command, its output on stderr; raises BuildError when it fails."""
    start = time.perf_counter()
    with temporary_folder("peak") as folder:
        file = folder / "peak"
        command = [sys.executable, "-m", "tvm_flow.bench.weighed", str(file), *arguments]
        code = subprocess.run(command, stdout=STDERR, check=False).returncode
        if code:
            raise BuildError(f"tvm-flow {arguments[0]}: expected exit code 0, got {code}; see above")
        return Cost(time.perf_counter() - start, float(file.read_text()))
