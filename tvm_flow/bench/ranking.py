"""The model's ranking of a product's candidates (`tvm_flow.tune.modelled`) beside the measured one, on this machine.

Candidates are drawn from the whole space, threads as the default has them; the default is one of them. Each is timed
once in every round, in an order that is drawn anew, and its time is the median of its times by the default's.

    correlation     Spearman's, of cycles and times
    same rows       the same over those with the default's rows alone, which lie near each other
    regret          time of the candidate that the model puts first by that of the fastest; the default's beside it
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.backends.cpu.choices import product_default
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.entries import DEFAULT
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.local_bench import LocalBench

from tvm_flow.tune.modelled import CoreModel, rank_correlation
from tvm_flow.tune.modelled_candidates import as_parallel, modelled_entries, reference
from tvm_flow.tune.rounds import NoTimeError, Sampler
from tvm_flow.tune.statistics import median

DRAWN = 32
ROUNDS = 15


@dataclass(frozen=True)
class Ranking:
    """See the module; ``kernel`` in words, and how many candidates were ranked."""

    kernel: str
    ranked: int
    correlation: float
    same_rows: float
    regret: float
    default_regret: float


def rank_model(exported: Exported, target: TargetSpec, threads: int, drawn: int = DRAWN) -> Ranking | None:
    """Of the product with the most multiplications of all calls; None where there is none, or no llvm-mca."""
    kernels = tuned_kernels(exported, target, threads, lambda words: "product" in words, progress=False)
    products = [(each, each.packed.products[each.kernel]) for each in kernels if each.kernel in each.packed.products]
    if not products:
        return None
    kernel, product = max(products, key=lambda each: each[0].task.calls * each[1].m * each[1].k * each[1].n)
    space = [each for each in kernel.task.space if as_parallel(kernel, each)]
    chosen = random.Random(kernel.task.key.workload).sample(space, min(drawn, len(space)))
    with tempfile.TemporaryDirectory(prefix="tvm-flow-ranking-") as name:
        try:
            times = _measured(kernel, target, threads, chosen, Path(name))
            cycles = _modelled(kernel, target, threads, chosen)
        except (BuildError, NoTimeError) as error:
            print(f"model: {error}", file=sys.stderr)
            return None
    rows = product_default(product, False).rows
    return ranking(kernel.task.label, times, cycles, [each for each in times if _rows(each, rows) == rows])


def ranking(label: str, times: dict[str, float], cycles: dict[str, float], alike: Sequence[str]) -> Ranking:
    """Of candidates that have both, the default among them."""
    both = times.keys() & cycles.keys()
    times = {each: times[each] for each in both}
    fastest, first = min(times.values()), min(both, key=lambda each: (cycles[each], each))
    same = {each: times[each] for each in alike if each in both}
    correlations = (rank_correlation(cycles, times), rank_correlation(cycles, same))
    return Ranking(label, len(both), *correlations, times[first] / fastest, times[DEFAULT] / fastest)


def _measured(
    kernel: TunedKernel, target: TargetSpec, threads: int, chosen: Sequence[str], folder: Path
) -> dict[str, float]:
    """Median time of each by the default's of the same round; without those that gave none."""
    bench = LocalBench({kernel.task.key.workload: kernel}, target, threads, 2, folder)
    found: dict[str, list[float]] = {each: [] for each in (DEFAULT, *chosen)}
    rng = random.Random(0)
    with bench.open(kernel.task, chosen) as sampler:
        for _ in range(ROUNDS + 1):
            order = list(found)
            rng.shuffle(order)
            times = {each: time for each in order if (time := _sample(sampler, each))}
            for each, time in times.items():
                found[each].append(time / times[DEFAULT])
    return {each: median(times[1:]) for each, times in found.items() if len(times) > ROUNDS}


def _sample(sampler: Sampler, candidate: str) -> float:
    try:
        return sampler.sample(candidate)
    except NoTimeError:
        if candidate == DEFAULT:
            raise
        return 0.0


def _modelled(kernel: TunedKernel, target: TargetSpec, threads: int, chosen: Sequence[str]) -> dict[str, float]:
    """Cycles of each, the default's by the same model; without those that it cannot say."""
    with tempfile.TemporaryDirectory(prefix="tvm-flow-ranking-") as name:
        model = CoreModel(target, threads)
        right = reference(model, kernel, Path(name))
        entries = modelled_entries(model, kernel, chosen, right, Path(name))
    return {DEFAULT: right.cycles} | {each.candidate: each.samples[0] for each in entries if each.samples}


def _rows(candidate: str, default: int) -> int:
    return int(json.loads(candidate)["rows"]) if candidate else default
