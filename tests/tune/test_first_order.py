"""The order of the first candidates: a model's, until enough is measured; and why, where it is another."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from support.simulated_kernels import KEY, SimulatedBench, choices, simulated_task

from tvm_flow.errors import BuildError
from tvm_flow.target.spec import TargetSpec, load_target
from tvm_flow.tune import first_order
from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.first_order import FirstOrder, modelled_records
from tvm_flow.tune.ledger import append_all
from tvm_flow.tune.modelled_candidates import Reference
from tvm_flow.tune.proposals import FEWEST_KNOWN, modelled_order, propose
from tvm_flow.tune.search import BATCH, Search, Task
from tvm_flow.tune.stored_samples import curve
from tvm_flow.tune.verdicts import MODEL

SPACE = choices(40)
TASK = simulated_task(SPACE)
MODELLED_KEY = replace(KEY, method=f"{MODEL} threads=4")
GAINS = {each: 0.8 + 0.012 * i for i, each in enumerate(SPACE)}
"""What a space has last is the fastest, which the order of the space finds last."""


def modelled(count: int) -> list[Entry]:
    """Every so many-th candidate as the model has it, which is right."""
    return [
        Entry(MODELLED_KEY, Kind.MODELLED, each, "1", "0", (1000 / GAINS[each],), (1000.0,), exact=True)
        for each in SPACE[:: len(SPACE) // count]
    ]


@pytest.fixture(scope="module")
def measured() -> list[Entry]:
    entries: list[Entry] = []
    times = {DEFAULT: 1e-3} | {each: 1e-3 / gain for each, gain in GAINS.items()}
    Search(SimulatedBench(times), entries.append).run(TASK, [], len(SPACE))
    return entries


def orders(known: list[Entry], said: list[str] | None = None) -> FirstOrder:
    target = TargetSpec  # nothing is modelled here
    return FirstOrder({}, target, 1, known, pytest.fail, (said if said is not None else []).append)  # type: ignore[arg-type]


def test_replayed_with_a_model_a_search_finds_in_a_race_what_it_finds_late_without(measured: list[Entry]) -> None:
    with_model = curve(TASK, measured, [BATCH, 16, len(SPACE)], orders(modelled(10)).ratios)
    without = curve(TASK, measured, [BATCH, 16, len(SPACE)])
    assert with_model[0] == pytest.approx(max(GAINS.values()), rel=0.03)
    assert without[0] < 1.2 and with_model[-1] == pytest.approx(without[-1])


def test_what_is_modelled_orders_itself_and_predicts_the_others() -> None:
    ratios = {entry.candidate: entry.baseline[0] / entry.samples[0] for entry in modelled(10)}
    order = modelled_order(SPACE, ratios)
    assert sorted(order) == sorted(SPACE)
    assert set(order[:8]) & set(SPACE[-8:]) and not set(order[:8]) & set(SPACE[:8])


def test_a_few_modelled_candidates_come_first_or_last_and_the_others_in_the_order_of_the_space() -> None:
    order = modelled_order(SPACE, {SPACE[20]: 1.2, SPACE[0]: 0.9})
    assert order == [SPACE[20], *SPACE[1:20], *SPACE[21:], SPACE[0]]


def test_measured_samples_take_over() -> None:
    """They say the opposite of the model."""
    known = {each: 1.0 / (1 + i) for i, each in enumerate(SPACE[:FEWEST_KNOWN])}
    wrong = {each: GAINS[each] for each in SPACE}
    assert propose(SPACE, known, 4, 1, wrong) == propose(SPACE, known, 4, 1)
    few = dict(list(known.items())[:-1])
    assert propose(SPACE, few, 4, 1, wrong) != propose(SPACE, few, 4, 1)


def test_a_model_is_asked_once_and_not_where_enough_is_measured(measured: list[Entry]) -> None:
    asked: list[int] = []

    def first(_task: Task, trials: int, _left: float) -> Mapping[str, float]:
        asked.append(trials)
        return {}

    Search(SimulatedBench({DEFAULT: 1e-3}), lambda _: None, first=first).run(TASK, [], 24)
    assert asked == [24]
    Search(SimulatedBench({DEFAULT: 1e-3}), lambda _: None, first=first).run(TASK, measured, len(SPACE))
    assert asked == [24]


def test_nothing_is_modelled_where_the_order_does_not_count_or_too_few_trials_are_left() -> None:
    said: list[str] = []
    order = orders([], said)
    assert order.ratios(TASK, len(SPACE)) == {} and said == []
    assert order.ratios(TASK, FEWEST_KNOWN - 1) == {}
    assert order.ratios(TASK, FEWEST_KNOWN - 2) == {}
    (why,) = said
    assert "as their space has them" in why and "fewer than 8 trials" in why


def test_without_a_model_of_the_core_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object) -> None:
        raise BuildError("llvm-mca: expected it on PATH, got none")

    monkeypatch.setattr(first_order, "CoreModel", lacks)
    said: list[str] = []
    assert orders([], said).ratios(TASK, 20) == {}
    assert "expected it on PATH" in said[0]


def test_records_of_another_core_or_compiler_order_nothing() -> None:
    foreign = [replace(each, key=replace(each.key, target="other")) for each in modelled(10)]
    said: list[str] = []
    assert orders(foreign, said).ratios(TASK, FEWEST_KNOWN - 1) == {} and said
    assert len(orders(modelled(10)).ratios(TASK, FEWEST_KNOWN - 1)) == 10


def test_modelling_ends_with_its_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(*_: object) -> Iterator[list[Entry]]:
        for entry in modelled(10):
            time.sleep(0.02)
            yield [entry]

    kept: list[Entry] = []
    monkeypatch.setattr(first_order, "CoreModel", lambda *_: None)
    monkeypatch.setattr(first_order, "key_of", lambda *_: MODELLED_KEY)
    monkeypatch.setattr(first_order, "reference", lambda *_: Reference(None, 1000.0, 0.0))
    monkeypatch.setattr(first_order, "modelled_batches", batches)
    order = replace(
        orders([]),
        target=load_target("raspberry-pi-5"),
        kernels={TASK.key.workload: TunedKernel(TASK, None, "", None)},
        write=kept.append,
    )
    assert order.ratios(TASK, 16, 0.04).keys() == {entry.candidate for entry in kept} and len(kept) == 1
    assert len(order.ratios(TASK, 16)) == 10


@pytest.mark.skipif(not shutil.which("llvm-mca"), reason="llvm-mca is not installed")
def test_what_is_modelled_for_a_search_is_kept_as_modelled_and_not_made_again(
    product: TunedKernel, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_order, "FEWEST_KNOWN", 2)
    monkeypatch.setattr(first_order, "SLOWEST", 600.0)  # the machine may be busy
    made: list[Entry] = []
    kernels, said = {product.task.key.workload: product}, list[str]()
    assert len(product.task.space) > 2
    found = FirstOrder(kernels, host, 1, [], made.append, said.append).ratios(product.task, 2)
    assert found.keys() == {entry.candidate for entry in made} and len(made) == 2
    assert all(entry.kind is Kind.MODELLED and entry.key.method == f"{MODEL} threads=1" for entry in made)
    assert "2 modelled in" in said[0]
    append_all(tmp_path, made)
    again = FirstOrder(kernels, host, 1, modelled_records(tmp_path), pytest.fail, said.append)
    assert again.ratios(product.task, 2) == found
    hurried = FirstOrder(kernels, host, 1, [], pytest.fail, said.append)
    assert hurried.ratios(product.task, 2, 1e-3) == {} and "too little time" in said[-1]
