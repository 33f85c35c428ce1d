"""What to try next: what a model of the core puts first, then xgboost on what was measured, always some by chance.

    nothing known       candidates in the order of what is modelled of them (`first_order`), else as the space has them
    FEWEST_KNOWN        and more measured: xgboost on their ratios; what was modelled has no say any more

The cost model is MetaSchedule's, xgboost; its search, its database and its features of loops are not used:

    database    a torn or blank line ends it, two writers mix workloads, a met budget is spent again (`ledger`)
    search      mutates traces of random decisions; a space here has some hundred candidates that are named one by one,
                a choice that a person can read in a record, and there is nothing to mutate
    workers     take 28 to 43 s each to start, and parse intrinsics that no kernel here has (`race_program`: forked)
    features    164 numbers of each loop nest: our kernels are intrinsics and calls in fixed loops, of which they say
                little. Of 40 measured candidates of the demo's 128x96x384 (2026-11-26, Zen 4, AVX2, busy, one thread)
                some were known, drawn six times, and the others predicted; Spearman's correlation with what they take:

                known                                        8      16      24
                the choice's own numbers, as here          .55     .80     .78
                MetaSchedule's PerStoreFeature, XGBModel   .13     .36     .41      and .4 s a candidate to extract

`tvm_flow.backends.cpu.space` gives MetaSchedule the tiles of a product all the same, for whoever wants to search them
with it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

FEWEST_KNOWN = 8
"""Before so many candidates are known xgboost has nothing to say."""
BY_CHANCE = 4
"""One of so many proposals is drawn, in case the model is wrong."""
NOTHING: Mapping[str, float] = MappingProxyType({})
_MODEL = {"max_depth": 4, "eta": 0.2, "objective": "reg:squarederror", "nthread": 1, "verbosity": 0, "seed": 1}
_TREES = 60
_LEAST = 0.05
"""Ratio that one which failed counts as."""


def propose(
    space: Sequence[str], known: Mapping[str, float], count: int, seed: int, modelled: Mapping[str, float] = NOTHING
) -> list[str]:
    """Up to ``count`` candidates of ``space`` that are not ``known``: candidate -> ratio, 0 for one that failed.

    ``modelled`` are such ratios by a model. The same arguments give the same proposals.
    """
    left = [each for each in space if each not in known]
    if len(left) <= count:
        return left
    ordered = predicted_order(left, known) if len(known) >= FEWEST_KNOWN else modelled_order(left, modelled)
    lucky = random.Random(f"{seed} {len(known)}").sample(left, count // BY_CHANCE)
    best = [each for each in ordered if each not in lucky][: count - len(lucky)]
    return [*best, *lucky]


def predicted_order(candidates: Sequence[str], known: Mapping[str, float]) -> list[str]:
    """``candidates``, the most promising first, by a model of the ratios that are ``known``."""
    return _ordered(candidates, _predicted(candidates, known))


def modelled_order(candidates: Sequence[str], modelled: Mapping[str, float]) -> list[str]:
    """The same by what is ``modelled`` of some of them and, where that is enough, predicted of the others from it.

    Else the others count as the default does; equal ones keep their order.
    """
    others = [each for each in candidates if each not in modelled]
    enough = others and len(modelled) >= FEWEST_KNOWN
    predicted = dict(zip(others, _predicted(others, modelled), strict=True)) if enough else {}
    scores = [math.log(max(modelled[c], _LEAST)) if c in modelled else predicted.get(c, 0.0) for c in candidates]
    return _ordered(candidates, scores)


def _ordered(candidates: Sequence[str], scores: Sequence[float]) -> list[str]:
    return [candidates[i] for i in sorted(range(len(candidates)), key=lambda i: (-scores[i], i))]


def _predicted(candidates: Sequence[str], known: Mapping[str, float]) -> list[float]:
    """Logarithms of the ratios of ``candidates``."""
    import xgboost

    names = sorted({name for each in (*candidates, *known) for name in json.loads(each)})
    data = xgboost.DMatrix(_rows(list(known), names), label=np.log([max(r, _LEAST) for r in known.values()]))
    model = xgboost.train(_MODEL, data, num_boost_round=_TREES)
    return [float(score) for score in model.predict(xgboost.DMatrix(_rows(candidates, names)))]


def _rows(candidates: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32 [candidates, names]; what a candidate does not say is missing, as xgboost has it."""
    choices = [json.loads(each) for each in candidates]
    return np.array([[_number(choice.get(name)) for name in names] for choice in choices], np.float32)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
