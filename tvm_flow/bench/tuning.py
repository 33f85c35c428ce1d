"""``scripts/bench tuning``: what tuning costs on this machine, and what it gives: a step by default beside a tuned one.

Everything together has ``--minutes``; what every part is at and how much time is left goes to stderr. The export's
kernels are tuned with up to ``--trials`` candidates, then again with what was tried as the budget, which must cost
nothing. Its bundle is compiled by default and with the records, both unchecked (the compile command checks), and
velocities of both are timed in turns on the same input: ``ratio_low`` and ``ratio_high`` are the interval of default /
tuned (`tvm_flow.tune.statistics`). Where no kernel won, the two bundles are one and the ratio is 1.

    worker_start_s      until a forked process could compile a candidate; stock: 28 to 43
    trials_per_minute   of the time that candidates were compiled and run
    rank_correlation    of the model's cycles and measured times, over candidates drawn from the space of the product
                        that multiplies most (`tvm_flow.bench.ranking`); null without llvm-mca
    model_regret        time of the candidate that the model puts first by that of the fastest of them

Weights of an XL block are random (`tvm_flow.bench.models`); its export is made once and kept in the cache. What cannot
be cut short is a bundle's compilation: where that takes longer than foreseen, the bench does.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tvm_flow.bench.int8_export import kept_export
from tvm_flow.bench.models import bench_model
from tvm_flow.bench.phases import Phases, say
from tvm_flow.bench.ranking import DRAWN, Ranking, heaviest_products, rank_model
from tvm_flow.bench.turns import FEWEST, Turns, in_turns, velocity_seconds
from tvm_flow.check.sampling import Unchecked
from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export import Exported, load_exported
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec, detect_host
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.race_program import worker_start
from tvm_flow.tune.rounds import NoTimeError
from tvm_flow.tune.tune_export import Tuned, TuneOptions, tune_kernels

PARTS = 7
COMPARE_SHARE, RANK_SHARE = 0.2, 0.2
"""Of the time, at most, for the steps in turns, and for the ranking."""
COMPARED = 45
"""Velocities of each bundle, with the first that is dropped."""
LEAST_SEARCH = 30.0
"""Seconds."""


@dataclass
class TuningBench:
    """Parts of the bench; see the module."""

    exported: Exported
    target: TargetSpec
    folder: Path
    store: Path
    threads: int
    phases: Phases

    def kernels(self) -> list[TunedKernel]:
        """Of all steps and the decoder."""
        with self.phases.part("import"):
            return tuned_kernels(self.exported, self.target, self.threads, lambda _: True, progress=False)

    def bundle(self, name: str, records: Path | None) -> tuple[Path, float]:
        """A bundle, and the seconds that it took."""
        with self.phases.part(f"{name} bundle"):
            start = time.monotonic()
            options = CompileOptions(self.threads, False, Unchecked(), records=records)
            path = compile_bundle(self.exported, self.target, self.folder / name, options).bundle
            return path, time.monotonic() - start

    def search(self, kernels: list[TunedKernel], trials: int, reserve: float) -> Tuned:
        """Up to ``trials`` candidates, with ``reserve`` seconds of the time left for what follows."""
        seconds = max(self.phases.left - reserve, LEAST_SEARCH)
        with self.phases.part(f"search, {trials} trials in {seconds:.0f} s"):
            return self._tune(kernels, TuneOptions(trials, seconds / 60))

    def again(self, kernels: list[TunedKernel], tried: int) -> Tuned | None:
        """The same budget once more: what was tried is what it comes to; None where nothing was."""
        with self.phases.part(f"the budget of {tried} trials again"):
            return self._tune(kernels, TuneOptions(tried)) if tried else None

    def _tune(self, kernels: list[TunedKernel], options: TuneOptions) -> Tuned:
        options = replace(options, threads=self.threads, progress=False)
        done = tune_kernels(kernels, self.target, self.store, options, say, time.monotonic())
        if done.interrupted:
            raise KeyboardInterrupt
        return done

    def ranking(self, kernels: list[TunedKernel], drawn: int, seconds: float) -> Ranking | None:
        """Of the heaviest product; None, said on stderr, where there is none or no model of this core."""
        with self.phases.part("ranking"):
            try:
                (heaviest,) = heaviest_products(kernels, 1)
                return rank_model(heaviest, self.target, self.threads, drawn, seconds)
            except (ValueError, BuildError, NoTimeError) as error:
                say(f"no ranking: {error}")
                return None

    def measured(self, trials: int, drawn: int) -> dict[str, object]:
        """Fields of the JSON line."""
        kernels = self.kernels()
        default, built = self.bundle("default", None)
        once, whole = velocity_seconds(default, self.threads), self.phases.seconds
        compare, rank = 2 * once * max(min(COMPARED, whole * COMPARE_SHARE / 2 / once), FEWEST), whole * RANK_SHARE
        first = self.search(kernels, trials, built + compare + rank)
        again = self.again(kernels, sum(found.trials for _, found in first.verdicts.values()))
        won = sum(found.tuned for _, found in first.verdicts.values())
        if won:
            tuned, _ = self.bundle("tuned", self.store)
            with self.phases.part("steps in turns"):
                turns = in_turns((default, tuned), self.threads, COMPARED, self.phases.left - rank)
        else:
            say("no kernel won: both bundles are the same")
            turns = Turns.same(once)
        ranked = self.ranking(kernels, drawn, max(self.phases.left, rank / 2))
        return _fields(first, again, turns, ranked) | {"kernels_tuned": won, "seconds": round(self.phases.took)}


def _fields(first: Tuned, again: Tuned | None, turns: Turns, model: Ranking | None) -> dict[str, object]:
    busy, gain = first.costs.compile + first.costs.run, turns.gain
    return {
        "worker_start_s": round(worker_start(), 3),
        "trials": first.trials,
        "trials_per_minute": round(first.trials / busy * 60, 1) if busy else None,
        "met_budget_trials": again.trials if again else None,
        "kernels": len(first.verdicts),
        "default_ms": round(turns.default_ms, 3),
        "tuned_ms": round(turns.tuned_ms, 3),
        "ratio_low": round(gain.low, 4),
        "ratio_high": round(gain.high, 4),
        "rank_correlation": round(model.correlation, 3) if model else None,
        "rank_correlation_same_rows": round(model.same_rows, 3) if model else None,
        "model_regret": round(model.regret, 3) if model else None,
        "default_regret": round(model.default_regret, 3) if model else None,
        "ranked": model.ranked if model else 0,
        "ranked_kernel": model.kernel if model else None,
    }


def main(arguments: list[str]) -> None:
    """Parse, tune, compare, print."""
    parser = argparse.ArgumentParser(prog="bench tuning", description="what tuning costs and gives on this machine")
    parser.add_argument("--model", default="demo", help="demo (--export), stdit3-xl or stdit-xl: one block")
    parser.add_argument("--export", type=Path, default=Path("artifacts/demo/export"), help="of the demo")
    parser.add_argument("--trials", type=int, default=128, help="candidates over all kernels (default: 128)")
    parser.add_argument("--minutes", type=float, default=11.0, help="for everything (default: 11)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    text = f"candidates that the model and this machine rank (default: {DRAWN})"
    parser.add_argument("--drawn", type=int, default=DRAWN, help=text)
    parser.add_argument("--records", type=Path, help="folder in which measurements are kept (default: none is)")
    options = parser.parse_args(arguments)
    if options.model == "demo" and not options.export.is_dir():
        raise ConfigError(f"{options.export}: expected an export, got none; run scripts/demo, or name one by --export")
    if options.trials < 1 or options.minutes <= 0:
        raise ConfigError(f"{options.trials} trials, {options.minutes:g} minutes: expected more than none; name some")
    phases = Phases(PARTS + (options.model != "demo"), options.minutes * 60)
    with temporary_folder("tuning") as folder:
        exported = _exported(options, phases)
        store = options.records or folder / "records"
        bench = TuningBench(exported, detect_host(), folder, store, options.threads, phases)
        print(json.dumps({"model": options.model} | bench.measured(options.trials, options.drawn)))


def _exported(options: argparse.Namespace, phases: Phases) -> Exported:
    if options.model == "demo":
        return load_exported(options.export)
    with phases.part(f"one block of {options.model}"):
        return kept_export(f"{options.model}-1", bench_model(options.model, 1), options.threads, say)
