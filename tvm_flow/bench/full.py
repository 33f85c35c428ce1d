"""``scripts/bench full``: every stage of a full-size build, in seconds and peak memory.

    {"model", "blocks", "steps", "stages": {NAME: {"seconds", "peak_mb"}}, "bundle_bytes", "export_bytes"}

One process a stage; see `tvm_flow.bench.models` for the weights and `tvm_flow.bench.stages` for what is measured. The
folder takes 10 GB for STDiT3-XL/2 and is deleted at the end unless ``--keep`` names another. ``--calibrated``:
see `tvm_flow.bench.spread`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.bench.models import bench_model, write_inputs
from tvm_flow.bench.spread import spread_ranges
from tvm_flow.bench.stages import run_stage, stage_commands
from tvm_flow.pack import bundle_bytes
from tvm_flow.scratch import temporary_folder


@dataclass(frozen=True)
class FullBuild:
    """``blocks`` of ``model`` (None: all), for ``steps`` of which ``calibrated`` are, up to the stage ``last``."""

    model: str
    blocks: int | None
    steps: int
    calibrated: int
    threads: int
    last: str


def measure(asked: FullBuild, folder: Path) -> dict[str, object]:
    """Build ``asked`` in ``folder``; the fields of the JSON line."""
    model = bench_model(asked.model, asked.blocks)
    start = time.perf_counter()
    inputs = write_inputs(model, folder, asked.calibrated)
    commands = stage_commands(inputs, folder, asked.threads)
    print(f"random weights written: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    costs = {}
    for stage in list(commands)[: list(commands).index(asked.last) + 1]:
        costs[stage] = run_stage(commands[stage])
        if stage == "calibrate" and asked.calibrated != asked.steps:
            spread_ranges(folder / "ranges.safetensors", inputs.sampler, asked.steps)
        print(f"{stage}: {costs[stage].rounded()}", file=sys.stderr, flush=True)
    line: dict[str, object] = {"model": asked.model, "blocks": model.config.depth, "steps": asked.steps}
    line["stages"] = {stage: cost.rounded() for stage, cost in costs.items()}
    if "compile" in costs:
        line["bundle_bytes"] = bundle_bytes(folder / "bundle")
    if "export" in costs:
        line["export_bytes"] = sum(path.stat().st_size for path in (folder / "export").iterdir())
    return line


def main(arguments: list[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="bench full", description="a full-size build, stage by stage")
    parser.add_argument("--model", default="stdit3-xl", help="stdit3-xl or stdit-xl (default: stdit3-xl)")
    parser.add_argument("--blocks", type=int, help="depth of the model (default: its own)")
    parser.add_argument("--steps", type=int, default=2, help="denoising steps (default: 2)")
    parser.add_argument("--calibrated", type=int, help="steps to calibrate, spread over all (default: all)")
    parser.add_argument("--threads", type=int, default=0, help="of compile's check (default: every core)")
    stages = ("inspect", "calibrate", "quantize", "export", "compile")
    parser.add_argument("--last", default="compile", choices=stages, help="stage to stop after (default: compile)")
    parser.add_argument("--keep", type=Path, help="folder for everything, kept")
    options = parser.parse_args(arguments)
    calibrated = options.steps if options.calibrated is None else options.calibrated
    asked = FullBuild(options.model, options.blocks, options.steps, calibrated, options.threads, options.last)
    if options.keep:
        line = measure(asked, options.keep)
    else:
        with temporary_folder("full") as folder:
            line = measure(asked, folder)
    print(json.dumps(line))
