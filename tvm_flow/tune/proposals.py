"""What to try next: the order that the space came in, then xgboost on what was measured, and always some by chance.

xgboost is taken directly. MetaSchedule's search expects its own database, which is not safe (a torn or blank line ends
it, two writers mix workloads), traces of random decisions instead of a choice that a person can read, and a worker that
takes half a minute to start; its cost model is xgboost on features of loops. Our spaces are small and written down, and
a candidate is a handful of numbers: these are the features.

What MetaSchedule would add are its features of loops and its mutations. A space here has some hundred candidates
that are named one by one, where there is nothing to mutate; `tvm_flow.backends.cpu.space` gives MetaSchedule
the tiles of a product all the same, for whoever wants to search them with it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

FEWEST_KNOWN = 8
"""Before so many candidates are measured the model has nothing to say."""
BY_CHANCE = 4
"""One of so many proposals is drawn, in case the model is wrong."""
_MODEL = {"max_depth": 4, "eta": 0.2, "objective": "reg:squarederror", "nthread": 1, "verbosity": 0, "seed": 1}
_TREES = 60


def propose(space: Sequence[str], known: Mapping[str, float], count: int, seed: int) -> list[str]:
    """Up to ``count`` candidates of ``space`` that are not ``known``: candidate -> ratio, 0 for one that failed.

    The same arguments give the same proposals.
    """
    left = [each for each in space if each not in known]
    if len(left) <= count:
        return left
    ordered = predicted_order(left, known) if len(known) >= FEWEST_KNOWN else left
    lucky = random.Random(f"{seed} {len(known)}").sample(left, count // BY_CHANCE)
    best = [each for each in ordered if each not in lucky][: count - len(lucky)]
    return [*best, *lucky]


def predicted_order(candidates: Sequence[str], known: Mapping[str, float]) -> list[str]:
    """``candidates``, the most promising first, by a model of the ratios that are ``known``."""
    import xgboost

    names = sorted({name for each in (*candidates, *known) for name in json.loads(each)})
    data = xgboost.DMatrix(_rows(list(known), names), label=np.log([max(r, 0.05) for r in known.values()]))
    model = xgboost.train(_MODEL, data, num_boost_round=_TREES)
    scores = model.predict(xgboost.DMatrix(_rows(candidates, names)))
    return [candidates[i] for i in sorted(range(len(candidates)), key=lambda i: (-float(scores[i]), i))]


def _rows(candidates: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32 [candidates, names]; what a candidate does not say is missing, as xgboost has it."""
    choices = [json.loads(each) for each in candidates]
    return np.array([[_number(choice.get(name)) for name in names] for choice in choices], np.float32)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
