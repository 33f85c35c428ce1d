"""``scripts/bench ranking``: the model's ranking of a product's candidates beside the measured one, on this machine.

    {"threads", "products": {NAME: {"ranked", "spearman", "alike", "same_rows", "first_choice", "default"}}, "seconds"}

For the ``--products`` that multiply most in an export: candidates are drawn from the whole space, threads as the
default has them; the default is one of them. Each is modelled (`tvm_flow.tune.modelled`), then timed once in every
round, in an order that is drawn anew; its time is the median of its times by the default's.

    spearman        rank correlation of cycles and times
    same_rows       the same over those with the default's rows alone, which lie near each other and are ``alike`` many
    first_choice    time of the candidate that the model puts first by that of the fastest; ``default``: the default's
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.backends.cpu.choices import product_default
from tvm_flow.bench.phases import Phases, say
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export import load_exported
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec, detect_host
from tvm_flow.tune.entries import DEFAULT
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.local_bench import LocalBench
from tvm_flow.tune.modelled import CoreModel, rank_correlation
from tvm_flow.tune.modelled_candidates import BATCH, as_parallel, modelled_entries, reference
from tvm_flow.tune.rounds import NoTimeError, Sampler
from tvm_flow.tune.statistics import median

DRAWN = 40
ROUNDS = 15
MODEL_SHARE = 0.6
"""Of the time for a ranking; the rest is for the measurement."""


@dataclass(frozen=True)
class Ranking:
    """See the module; ``kernel`` in words, and how many candidates were ranked."""

    kernel: str
    ranked: int
    correlation: float
    same_rows: float
    regret: float
    default_regret: float
    alike: int = 0

    def to_json(self) -> dict[str, float]:
        """Columns of README's table."""
        found = {"ranked": self.ranked, "spearman": self.correlation, "alike": self.alike, "same_rows": self.same_rows}
        found |= {"first_choice": self.regret, "default": self.default_regret}
        return {name: round(value, 3) for name, value in found.items()}


def heaviest_products(kernels: Sequence[TunedKernel], many: int) -> list[TunedKernel]:
    """The products of ``kernels`` with the most multiplications of all calls."""
    products = [(each, each.packed.products[each.kernel]) for each in kernels if each.kernel in each.packed.products]
    order = sorted(products, key=lambda each: -each[0].task.calls * each[1].m * each[1].k * each[1].n)
    return [kernel for kernel, _ in order[:many]]


def rank_model(
    kernel: TunedKernel, target: TargetSpec, threads: int, drawn: int = DRAWN, seconds: float = math.inf
) -> Ranking:
    """Of the product ``kernel``, as many of ``drawn`` candidates as ``seconds`` allow.

    Raises BuildError without llvm-mca, NoTimeError where the default has no time.
    """
    start, space = time.monotonic(), [each for each in kernel.task.space if as_parallel(kernel, each)]
    chosen = random.Random(kernel.task.key.workload).sample(space, min(drawn, len(space)))
    with temporary_folder("ranking") as folder:
        cycles = _modelled(kernel, CoreModel(target, threads), chosen, start + seconds * MODEL_SHARE)
        bench = LocalBench({kernel.task.key.workload: kernel}, target, threads, 2, folder)
        times = _measured(bench, kernel, [each for each in chosen if each in cycles], start + seconds)
    rows = product_default(kernel.packed.products[kernel.kernel], False).rows
    return ranking(kernel.task.label, times, cycles, [each for each in times if _rows(each, rows) == rows])


def ranking(label: str, times: dict[str, float], cycles: dict[str, float], alike: Sequence[str]) -> Ranking:
    """Of candidates that have both, the default among them."""
    both = times.keys() & cycles.keys()
    times = {each: times[each] for each in both}
    fastest, first = min(times.values()), min(both, key=lambda each: (cycles[each], each))
    same = {each: times[each] for each in alike if each in both}
    correlations = (rank_correlation(cycles, times), rank_correlation(cycles, same))
    return Ranking(label, len(both), *correlations, times[first] / fastest, times[DEFAULT] / fastest, len(same))


def _modelled(kernel: TunedKernel, model: CoreModel, chosen: Sequence[str], end: float) -> dict[str, float]:
    """Cycles of the default and, until ``end``, of each; without those that the model cannot say."""
    with temporary_folder("ranking") as folder:
        right = reference(model, kernel, folder)
        found = {DEFAULT: right.cycles}
        for first in range(0, len(chosen), BATCH):
            if time.monotonic() > end:
                break
            entries = modelled_entries(model, kernel, chosen[first : first + BATCH], right, folder)
            found |= {each.candidate: each.samples[0] for each in entries if each.samples}
            say(f"  {kernel.task.label}: {len(found) - 1} of {len(chosen)} candidates modelled")
        return found


def _measured(bench: LocalBench, kernel: TunedKernel, chosen: Sequence[str], end: float) -> dict[str, float]:
    """Median time of each by the default's of the same round, of rounds until ``end``; without those that gave none."""
    found: dict[str, list[float]] = {each: [] for each in (DEFAULT, *chosen)}
    rng, rounds = random.Random(0), 0
    with bench.open(kernel.task, chosen) as sampler:
        while rounds < 2 or (rounds <= ROUNDS and time.monotonic() < end):
            order = list(found)
            rng.shuffle(order)
            times = {each: taken for each in order if (taken := _sample(sampler, each))}
            for each, sample in times.items():
                found[each].append(sample / times[DEFAULT])
            rounds += 1
    say(f"  {kernel.task.label}: {rounds - 1} of {ROUNDS} rounds measured")
    return {each: median(times[1:]) for each, times in found.items() if len(times) == rounds}


def _sample(sampler: Sampler, candidate: str) -> float:
    try:
        return sampler.sample(candidate)
    except NoTimeError:
        if candidate == DEFAULT:
            raise
        return 0.0


def _rows(candidate: str, default: int) -> int:
    return int(json.loads(candidate)["rows"]) if candidate else default


def main(arguments: list[str]) -> None:
    """Parse, extract, rank, print."""
    parser = argparse.ArgumentParser(prog="bench ranking", description="the model of a core beside this machine")
    parser.add_argument("--export", type=Path, default=Path("artifacts/demo/export"), help="whose products")
    parser.add_argument("--products", type=int, default=3, help="that multiply most (default: 3)")
    parser.add_argument("--drawn", type=int, default=DRAWN, help=f"candidates of each (default: {DRAWN})")
    parser.add_argument("--threads", type=int, default=1, help="of a product (default: 1)")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of them (default: 10)")
    options = parser.parse_args(arguments)
    if not options.export.is_dir():
        raise ConfigError(f"{options.export}: expected an export, got none; run scripts/demo, or name one by --export")
    phases, target = Phases(options.products + 1, options.minutes * 60), detect_host()
    with phases.part("import"):
        exported = load_exported(options.export)
        kernels = tuned_kernels(exported, target, options.threads, lambda words: "product" in words, progress=False)
    found: dict[str, dict[str, float]] = {}
    chosen = heaviest_products(kernels, options.products)
    for number, kernel in enumerate(chosen):
        with phases.part(kernel.task.label):
            seconds = phases.left / (len(chosen) - number)
            try:
                found[kernel.task.label] = rank_model(kernel, target, options.threads, options.drawn, seconds).to_json()
            except NoTimeError as error:
                raise BuildError(f"{kernel.task.label}: {error}; free the machine") from error
    print(json.dumps({"threads": options.threads, "products": found, "seconds": round(phases.took)}))
