"""``scripts/bench step``: one velocity of an XL/2 model, 16 frames, batch 1, by the C runtime and its peers.

    {"model", "blocks", "tokens", "threads", "ours_ms", "ours_prologue_ms", "ours_step_ms", "ours_max_err",
     "peers": {NAME: {"ms", "max_err"} or {"why"}}, "peak_mb"}

``ms`` is a contender's fastest of ``--rounds`` runs on the same inputs, one contender after another in a process of
its own. It has all work in it: the caption's float products and K and V of every cross-attention too, which ours does
once for a prompt, before its first step (``ours_prologue_ms``, the fastest; ``ours_step_ms`` is the rest), and a peer,
whose graph has them, in every step. ``max_err`` its largest error against the float model in double precision, on
velocities of about unit size; ``peak_mb`` the largest resident set of our process, weights included. The int8
contenders carry the error of 8 bits, onnxruntime's also that of its saturating products; that error is reported, not
judged. Every contender's memory and GMAC/s go to stderr. A peer that cannot run here, or fails, says ``why``.

Weights are random (`tvm_flow.bench.models`), calibrated on one step. The bundle is not checked call by call here:
``tvm-flow compile`` does that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.bench.contenders import CONTENDERS
from tvm_flow.bench.models import BenchModel, bench_model
from tvm_flow.bench.step_files import patches, prepare, step_macs
from tvm_flow.bench.step_inputs import StepFiles
from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder

OURS, REFERENCE = "ours", "float64"
PEER_SECONDS = 400.0
"""For a peer to get ready and be timed, ten times what the slowest needs here: torch's compiler has no limit."""


@dataclass(frozen=True)
class Measured:
    """A contender's fastest run in ms, its largest error, and its process's peak memory in MB."""

    ms: float
    max_err: float
    peak_mb: float
    prologue_ms: float | None = None
    """The part of ``ms`` that depends on the prompt alone; None where it is not known."""


@dataclass(frozen=True)
class Absent:
    """A peer that could not be measured."""

    why: str


def measure(model: BenchModel, folder: Path, threads: int, rounds: int) -> dict[str, Measured | Absent]:
    """Every contender on ``model``, whose files are in ``folder``; raises BuildError when ours cannot run."""
    files = StepFiles(folder)
    found: dict[str, Measured | Absent] = {}
    exact, _ = run_contender(REFERENCE, files, threads, 1)
    macs = step_macs(model)
    for name in CONTENDERS:
        if name == REFERENCE:
            continue
        try:
            result, line = run_contender(name, files, threads, rounds)
        except BuildError as failure:
            if name == OURS:
                raise
            found[name] = Absent(str(failure))
            print(f"{name:>18}: {failure}", file=sys.stderr, flush=True)
            continue
        error = float(np.abs(result - exact).max())
        mine = found[name] = Measured(line["ms"], error, line["peak_mb"], line.get("prologue_ms"))
        text = f"{mine.ms:.0f} ms, {macs / mine.ms / 1e6:.1f} GMAC/s, max error {error:.2g}, peak {mine.peak_mb:.0f} MB"
        once = "" if mine.prologue_ms is None else f", {mine.prologue_ms:.1f} ms of them once for a prompt"
        print(f"{name:>18}: {text}{once}", file=sys.stderr, flush=True)
    return found


def run_contender(
    name: str, files: StepFiles, threads: int, rounds: int
) -> tuple[np.ndarray[Any, Any], dict[str, float]]:
    """Velocity, and the line of the contender's process; raises BuildError when that fails, or cannot run here."""
    command = [sys.executable, "-m", "tvm_flow.bench.contenders", name, str(files.folder), str(threads), str(rounds)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    limit = None if name in (OURS, REFERENCE) else PEER_SECONDS
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{name}: expected it to be ready and timed within {limit} s, which it was not") from error
    if done.returncode:
        raise BuildError(f"{name}: expected exit code 0, got {done.returncode}; its own words are above")
    line = json.loads(done.stdout.splitlines()[-1])
    if "why" in line:
        raise BuildError(line["why"])
    return np.load(files.result(name)), line


def report(name: str, model: BenchModel, threads: int, found: dict[str, Measured | Absent]) -> dict[str, object]:
    """The JSON line's fields."""
    ours = found[OURS]
    assert isinstance(ours, Measured)
    once = ours.prologue_ms or 0.0
    peers = {peer: _peer(measured) for peer, measured in found.items() if peer != OURS}
    return {
        "model": name,
        "blocks": model.config.depth,
        "tokens": prod(patches(model)),
        "threads": threads,
        "ours_ms": round(ours.ms, 1),
        "ours_prologue_ms": round(once, 1),
        "ours_step_ms": round(ours.ms - once, 1),
        "ours_max_err": float(f"{ours.max_err:.3g}"),
        "peers": peers,
        "peak_mb": round(ours.peak_mb),
    }


def _peer(measured: Measured | Absent) -> dict[str, float | str]:
    if isinstance(measured, Absent):
        return {"why": measured.why}
    return {"ms": round(measured.ms, 1), "max_err": float(f"{measured.max_err:.3g}")}


def main(arguments: list[str]) -> None:
    """Parse, build, measure, print."""
    parser = argparse.ArgumentParser(prog="bench step", description="one full-size velocity beside its peers")
    parser.add_argument("--model", default="stdit3-xl", help="stdit3-xl or stdit-xl (default: stdit3-xl)")
    parser.add_argument("--blocks", type=int, help="depth of the model (default: its own)")
    parser.add_argument(
        "--pixels", type=int, help="rows and columns: 256 are 4096 tokens, 512 are 16384 (default: 256)"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of every contender, the fastest counts (default: 3)"
    )
    options = parser.parse_args(arguments)
    model = bench_model(options.model, options.blocks, options.pixels)
    with temporary_folder("step") as folder:
        prepare(model, folder, options.threads)
        found = measure(model, folder, options.threads, options.rounds)
    print(json.dumps(report(options.model, model, options.threads, found)))
