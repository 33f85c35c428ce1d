"""The order of a kernel's first candidates, before any of them is measured: that of a model of the core (`modelled`).

    modelled already    records of the store, or shipped with the target (targets/records): they cost nothing
    else                up to `MODELLED` candidates, never more than there will be trials, are modelled first and kept

A measured candidate costs a compilation, a transfer and a race; a modelled one a compilation, a call here or under
qemu, and llvm-mca's time. So nothing is modelled where every candidate will be tried anyway, where too few will be for
xgboost to make anything of, or where a call takes long; then candidates come as their space has them, next to the
default first, and why is said once. From `FEWEST_KNOWN` measured candidates on, these decide alone (`proposals`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder
from tvm_flow.shipped import shipped_folder
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.counted import TIMEOUT
from tvm_flow.tune.entries import Entry, Key
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.ledger import read_ledger
from tvm_flow.tune.local_bench import LocalBench
from tvm_flow.tune.modelled import CoreModel
from tvm_flow.tune.modelled_candidates import modelled_batches, modelled_ratios, reference
from tvm_flow.tune.proposals import FEWEST_KNOWN, NOTHING
from tvm_flow.tune.search import Task
from tvm_flow.tune.verdicts import MODEL
from tvm_flow.tune.workloads import key_of

MODELLED = 16
"""Of a kernel of which nothing is modelled yet: two proposals of the modelled search."""
SLOWEST = 5.0
"""Seconds that the default may take to be modelled; large products take minutes under qemu."""
TIME_SHARE = 4
"""Modelling may take one part in so many of the time that is left for a kernel."""
_HURRIED = "too little time to model a kernel first"


def modelled_records(store: Path) -> list[Entry]:
    """What ``store`` has of this model, and what is shipped."""
    found = read_ledger(store, shipped_folder("targets") / "records").entries
    return [entry for entry in found if entry.key.method.startswith(f"{MODEL} ")]


@dataclass
class FirstOrder:
    """See the module; ``known`` are modelled records, ``write`` keeps a new one, ``say`` tells why there is none."""

    kernels: Mapping[str, TunedKernel]
    target: TargetSpec
    threads: int
    known: Sequence[Entry]
    write: Callable[[Entry], None]
    say: Callable[[str], None]
    _said: set[str] = field(default_factory=set)
    _model: CoreModel | None = None

    @classmethod
    def on(cls, bench: LocalBench, store: Path, write: Callable[[Entry], None], say: Callable[[str], None]) -> Self:
        """Of searches on ``bench``; ``store`` is read now."""
        return cls(bench.kernels, bench.target, bench.threads, modelled_records(store), write, say)

    def ratios(self, task: Task, trials: int, left: float = math.inf) -> Mapping[str, float]:
        """Default / candidate by the model, for ``trials`` of ``task`` in ``left`` seconds; none where it is silent."""
        if trials >= len(task.space):
            return NOTHING
        mine = [entry for entry in self.known if _same(entry.key, task.key)]
        if len(ratios := modelled_ratios(mine)) >= FEWEST_KNOWN or any(ratio > 1.0 for ratio in ratios.values()):
            return ratios
        if trials < FEWEST_KNOWN:
            return self._unknown(f"fewer than {FEWEST_KNOWN} trials for a kernel")
        try:
            return self._modelled(task, min(trials, MODELLED), left)
        except BuildError as error:
            return self._unknown(str(error))

    def _modelled(self, task: Task, count: int, left: float) -> Mapping[str, float]:
        self._model = self._model or CoreModel(self.target, self.threads)
        key = key_of(task.key.workload, self.target, self.threads, MODEL)
        kernel = replace(self.kernels[task.key.workload], task=replace(task, key=key))
        found: dict[str, float] = {}
        with temporary_folder("order") as folder:
            start, most = time.monotonic(), left / TIME_SHARE
            try:
                right = reference(self._model, kernel, folder, min(TIMEOUT, most))
            except BuildError:
                if time.monotonic() - start > most:
                    return self._unknown(_HURRIED)
                raise
            if right.seconds > SLOWEST:
                return self._unknown(f"{task.label} takes {right.seconds:.0f} s to model")
            if right.seconds * count / len(os.sched_getaffinity(0)) > most:
                return self._unknown(_HURRIED)
            for made in modelled_batches(self._model, kernel, (), count, right, folder):
                for entry in made:
                    self.write(entry)
                found |= modelled_ratios(made)
                if time.monotonic() - start > most:
                    break
            took = time.monotonic() - start
        self.say(
            f"{task.label}: first candidates by a model of {self.target.cpu}: {len(found)} modelled in {took:.0f} s"
        )
        return found

    def _unknown(self, why: str) -> Mapping[str, float]:
        if why not in self._said:
            self._said.add(why)
            self.say(f"first candidates as their space has them, not as a model orders them: {why}")
        return NOTHING


def _same(modelled: Key, measured: Key) -> bool:
    """Of one kernel, compiled in one way; threads may differ, which the model is silent about."""
    return replace(modelled, method="") == replace(measured, method="")
