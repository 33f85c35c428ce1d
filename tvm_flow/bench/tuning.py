"""``scripts/bench tuning``: what tuning costs on this machine, and what it gives: a step by default beside a tuned one.

The export's kernels are tuned with ``--trials``, then again with the same budget, which must cost nothing. Its bundle
is compiled by default and with the records, both unchecked (the compile command checks), and velocities of both are
timed in turns on the same input: ``ratio_low`` and ``ratio_high`` are the interval of default / tuned
(`tvm_flow.tune.statistics`). Where no kernel won, the two bundles are the same and so is their time.

    worker_start_s      until a forked process could compile a candidate; stock: 28 to 43
    rank_correlation    of the model's cycles and measured times, over candidates drawn from the space of the product
                        that multiplies most (`tvm_flow.bench.ranking`); null without llvm-mca
    model_regret        time of the candidate that the model puts first by that of the fastest of them

Weights of an XL block are random (`tvm_flow.bench.models`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.bench.models import bench_model
from tvm_flow.bench.ranking import DRAWN, rank_model
from tvm_flow.bench.step_files import prepare
from tvm_flow.check.sampling import Unchecked
from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import ConfigError
from tvm_flow.export import Exported, load_exported
from tvm_flow.pack import read_golden
from tvm_flow.run import Bundle
from tvm_flow.target.spec import TargetSpec, detect_host
from tvm_flow.tune.race_program import worker_start
from tvm_flow.tune.rounds import PAIRS
from tvm_flow.tune.statistics import Interval, interval, median
from tvm_flow.tune.tune_export import TuneOptions, tune


@dataclass(frozen=True)
class Step:
    """Milliseconds of a velocity, and the interval of default / tuned."""

    default_ms: float
    tuned_ms: float
    gain: Interval


def compare(exported: Exported, target: TargetSpec, folder: Path, store: Path, threads: int) -> Step:
    """Both bundles of ``exported``, in turns."""
    paths = []
    for name, records in (("default", None), ("tuned", store)):
        options = CompileOptions(threads, False, Unchecked(), records=records)
        paths.append(compile_bundle(exported, target, folder / name, options).bundle)
    golden = read_golden(paths[0])
    with (
        Bundle.open(paths[0], threads=threads, unchecked=True) as one,
        Bundle.open(paths[1], threads=threads, unchecked=True) as other,
    ):
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(2 * PAIRS + 1):
            order = (0, 1) if number % 2 else (1, 0)
            for which in order:
                start = time.perf_counter()
                (one, other)[which].velocity(0, 0, golden.noise, golden.cond)
                times[which].append(time.perf_counter() - start)
    base, tuned = (each[1:] for each in times)
    return Step(median(base) * 1e3, median(tuned) * 1e3, interval(base, tuned))


def main(arguments: list[str]) -> None:
    """Parse, tune, compare, print."""
    parser = argparse.ArgumentParser(prog="bench tuning", description="what tuning costs and gives on this machine")
    parser.add_argument("--model", default="demo", help="demo (--export), stdit3-xl or stdit-xl: one block")
    parser.add_argument("--export", type=Path, default=Path("artifacts/demo/export"), help="of the demo")
    parser.add_argument("--trials", type=int, default=128, help="candidates over all kernels (default: 128)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    text = f"candidates that the model and this machine rank (default: {DRAWN})"
    parser.add_argument("--drawn", type=int, default=DRAWN, help=text)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tvm-flow-tuning-") as name:
        folder = Path(name)
        if options.model != "demo":
            prepare(bench_model(options.model, 1), folder, options.threads)
        export = options.export if options.model == "demo" else folder / "export_int8"
        if not export.is_dir():
            raise ConfigError(
                f"{export}: expected an export, got none; run scripts/demo first, or name one by --export"
            )
        print(json.dumps({"model": options.model} | _measured(export, folder, options)))


def _measured(export: Path, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    exported, target, store = load_exported(export), detect_host(), folder / "records"
    threads: int = options.threads

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    wanted = TuneOptions(trials=options.trials, threads=threads, progress=False)
    first = tune(export, target, store, wanted, say)
    again = tune(export, target, store, wanted, say)
    step = compare(exported, target, folder, store, threads)
    model = rank_model(exported, target, threads, options.drawn)
    busy = first.costs.compile + first.costs.run
    return {
        "worker_start_s": round(worker_start(), 3),
        "trials_per_minute": round(first.trials / busy * 60, 1) if busy else None,
        "met_budget_trials": again.trials,
        "kernels": len(first.verdicts),
        "kernels_tuned": sum(verdict.tuned for _, verdict in first.verdicts.values()),
        "default_ms": round(step.default_ms, 3),
        "tuned_ms": round(step.tuned_ms, 3),
        "ratio_low": round(step.gain.low, 4),
        "ratio_high": round(step.gain.high, 4),
        "rank_correlation": round(model.correlation, 3) if model else None,
        "rank_correlation_same_rows": round(model.same_rows, 3) if model else None,
        "model_regret": round(model.regret, 3) if model else None,
        "default_regret": round(model.default_regret, 3) if model else None,
        "ranked": model.ranked if model else 0,
        "ranked_kernel": model.kernel if model else None,
    }
