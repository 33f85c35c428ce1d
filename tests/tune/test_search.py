"""The search on simulated machines: it finds what is faster, spends what it was given, and ships no regression."""

from __future__ import annotations

import math
import random

import pytest
from support.simulated_kernels import KEY, Noise, SimulatedBench, choices, simulated_task

from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.proposals import predicted_order, propose
from tvm_flow.tune.rounds import ALIVE, SHORTEST, NoTimeError, finals, race
from tvm_flow.tune.search import BATCH, FINAL_SAMPLES, Search
from tvm_flow.tune.verdicts import Verdict, tried

MS = 1e-3
SPACE = choices(24)


def bench(fastest: str = SPACE[-1], gain: float = 1.3) -> SimulatedBench:
    times = {each: MS * (1.0 + 0.02 * i) for i, each in enumerate(SPACE)}
    return SimulatedBench({DEFAULT: MS, **times, fastest: MS / gain})


def search(machine: SimulatedBench, trials: int, known: list[Entry] | None = None) -> tuple[Verdict, list[Entry]]:
    written: list[Entry] = []
    verdict = Search(machine, written.append).run(simulated_task(SPACE), known or [], trials)
    return verdict, written


def test_the_fastest_candidate_is_found_and_confirmed() -> None:
    verdict, written = search(bench(), len(SPACE))
    assert verdict.candidate == SPACE[-1]
    assert verdict.best.low == pytest.approx(1.3, rel=0.02)
    final = next(entry for entry in written if entry.kind is Kind.FINAL and entry.candidate == SPACE[-1])
    assert len(final.samples) == 42
    assert final.code == f"code {SPACE[-1]}"
    assert final.state["simulated"] is True


def test_a_default_that_is_the_best_is_kept() -> None:
    verdict, _ = search(bench(SPACE[0], 1 / 1.01), len(SPACE))
    assert not verdict.tuned


def test_a_met_budget_costs_no_trial_and_a_larger_one_the_difference() -> None:
    _, first = search(bench(), 8)
    again = bench()
    verdict, nothing = search(again, 8, first)
    assert nothing == []
    assert again.raced == []
    assert verdict.trials == 8
    more = bench()
    _, second = search(more, 20, first)
    assert len(tried([*first, *second])) == 20
    assert not tried(first) & tried(entry for entry in second if entry.kind is Kind.TRIAL)


def test_a_budget_beyond_the_space_ends_with_it() -> None:
    _, written = search(bench(), 10_000)
    assert tried(written) == frozenset(SPACE)


def test_records_of_another_key_are_not_known() -> None:
    _, first = search(bench(), 8)
    foreign = [Entry(**(vars(entry) | {"key": KEY.__class__("w", "other", "", "", "")})) for entry in first]
    machine = bench()
    search(machine, 8, foreign)
    assert len(set(machine.raced)) == 8


def test_a_candidate_that_cannot_run_is_kept_with_its_cause_and_costs_a_trial() -> None:
    machine = bench()
    machine = SimulatedBench({each: time for each, time in machine.seconds.items() if each != SPACE[2]})
    verdict, written = search(machine, len(SPACE))
    failed = [entry for entry in written if entry.kind is Kind.FAILED]
    assert [(entry.candidate, entry.cause) for entry in failed] == [(SPACE[2], "it does not compile")]
    assert verdict.candidate == SPACE[-1]


@pytest.mark.parametrize("shown", [0.0, -1.0, math.nan, math.inf, 1e-12])
def test_a_time_that_cannot_be_never_wins(shown: float) -> None:
    times = {DEFAULT: MS, SPACE[0]: shown}
    verdict, _ = search(SimulatedBench(times, noise=lambda seconds: seconds), len(SPACE))
    assert not verdict.tuned


def test_a_default_that_does_not_run_ends_the_task() -> None:
    with pytest.raises(NoTimeError):
        search(SimulatedBench({SPACE[0]: MS}), 4)


def test_what_is_measured_is_written_before_the_search_goes_on() -> None:
    """A search that is ended in its second race has written its first."""
    machine, written = bench(), list[Entry]()

    def left() -> float:
        return 0.0 if len(tried(written)) == BATCH else math.inf

    Search(machine, written.append, left).run(simulated_task(SPACE), [], len(SPACE))
    assert len(tried(written)) == BATCH


def test_a_race_spends_its_samples_on_the_fast_ones() -> None:
    machine = bench(SPACE[3])
    race(machine, SPACE[:12])
    assert machine.sampled[SPACE[3]] > 2 * machine.sampled[SPACE[11]]
    assert sorted(machine.sampled[each] for each in SPACE[:12])[-ALIVE] == machine.sampled[SPACE[3]]


def test_what_is_far_behind_leaves_a_race_at_once() -> None:
    machine = SimulatedBench({DEFAULT: MS, **dict.fromkeys(SPACE[:10], MS * 4), SPACE[0]: MS, SPACE[1]: MS})
    race(machine, SPACE[:10])
    assert machine.sampled[SPACE[5]] == 3, "a warm-up and two rounds"


def test_a_round_in_which_the_default_moved_is_repeated() -> None:
    machine = SimulatedBench({DEFAULT: MS, SPACE[0]: MS}, Noise(3, drift=0, spikes=0.3))
    timed = finals(machine, SPACE[:1])
    assert timed.repeated > 0
    assert max(timed.baseline[SPACE[0]]) < 1.5 * MS


def test_a_finalist_that_cannot_win_any_more_leaves() -> None:
    machine = SimulatedBench({DEFAULT: MS, SPACE[0]: MS * 1.1, SPACE[1]: MS / 1.1})
    timed = finals(machine, SPACE[:2])
    assert len(timed.samples[SPACE[0]]) < 10
    assert len(timed.samples[SPACE[1]]) == 21


def test_a_slower_record_never_wins_in_a_thousand_noisy_searches() -> None:
    """5 % drift, spikes of twice the time: whatever wins is truly faster, and true gains are mostly found."""
    wrong, missed = [], 0
    for seed in range(1000):
        rng = random.Random(seed)
        space = choices(10)
        true = {each: MS * rng.choice([0.999, 1.0, 1.001, 1.01, 1.1, 1.4]) for each in space}
        gain = seed % 4 == 0
        if gain:
            true[space[rng.randrange(10)]] = MS * 0.92
        true = {each: max(time, MS) if time > 0.95 * MS else time for each, time in true.items()}
        machine = SimulatedBench({DEFAULT: MS, **true}, Noise(seed))
        verdict = Search(machine, lambda _entry: None).run(simulated_task(space), [], 10)
        if verdict.tuned and true[verdict.candidate] >= MS:
            wrong.append((seed, verdict.best))
        missed += gain and not verdict.tuned
    assert wrong == []
    assert missed < 50, f"of 250 gains of 8 % {missed} were missed"


def test_the_model_orders_what_is_left_by_what_is_known() -> None:
    known = {each: 1.0 + 0.05 * i for i, each in enumerate(SPACE[:16])}
    order = predicted_order(SPACE[16:], known)
    assert set(order) == set(SPACE[16:])
    assert order == predicted_order(SPACE[16:], known)


def test_proposals_repeat_and_leave_nothing_out() -> None:
    known: dict[str, float] = {}
    while proposed := propose(SPACE, known, 5, seed=3):
        assert proposed == propose(SPACE, known, 5, seed=3)
        assert not set(proposed) & set(known)
        known |= {each: 1.0 / (1 + SPACE.index(each)) for each in proposed}
    assert set(known) == set(SPACE)


class Clock:
    """Of a simulated machine: ``seconds`` from now on."""

    def __init__(self, machine: SimulatedBench, seconds: float) -> None:
        assert isinstance(machine.noise, Noise)
        self.noise, self.end = machine.noise, machine.noise.now + seconds

    def left(self) -> float:
        return self.end - self.noise.now


def timed_search(seconds: float) -> tuple[Verdict, list[Entry], float]:
    """A verdict, what was written, and how far beyond its time it went."""
    machine, written = bench(), list[Entry]()
    clock = Clock(machine, seconds)
    found = Search(machine, written.append, clock.left).run(simulated_task(SPACE), [], len(SPACE))
    return found, written, -clock.left()


def test_time_that_is_enough_for_all_ends_in_finals_and_less_ends_in_time() -> None:
    whole, _, _ = timed_search(10.0)
    assert whole.candidate == SPACE[-1]
    for seconds in (0.02, 0.1, 0.2, 0.3):
        verdict, written, beyond = timed_search(seconds)
        assert beyond < 13 * MS, "a round of eight, and what is dropped to warm up"
        assert not verdict.tuned or verdict.candidate == SPACE[-1]
        assert all(entry.kind is not Kind.FAILED for entry in written), "what had no time did not fail"


def test_races_leave_time_for_finals() -> None:
    """Twice what finals may take: races get half of it, and not more."""
    verdict, written, _ = timed_search(2 * FINAL_SAMPLES * max(MS, SHORTEST))
    assert any(entry.kind is Kind.FINAL for entry in written)
    assert verdict.why != "nothing was tried"


@pytest.mark.parametrize(("seconds", "tried"), [(0.3, 0), (0.6, BATCH)], ids=["no race", "no finals"])
def test_a_compiler_has_the_time_that_is_left_and_what_it_leaves_was_not_tried(seconds: float, tried: int) -> None:
    machine, written = SimulatedBench(bench().seconds, compiling=0.4), list[Entry]()
    clock = Clock(machine, seconds)
    found = Search(machine, written.append, clock.left).run(simulated_task(SPACE), [], len(SPACE))
    assert clock.left() == pytest.approx(0) and not found.tuned
    assert [entry.candidate for entry in written] == machine.raced and len(written) == tried
    assert all(entry.kind is Kind.TRIAL for entry in written)


def test_finals_that_are_cut_are_kept_and_decide_nothing() -> None:
    machine, written = bench(), list[Entry]()
    clock = Clock(machine, math.inf)

    def left() -> float:
        if len(tried(written)) == len(SPACE) and clock.end == math.inf:  # the finals begin
            clock.end = clock.noise.now + 40 * MS
        return clock.left()

    verdict = Search(machine, written.append, left).run(simulated_task(SPACE), [], len(SPACE))
    assert not verdict.tuned
    assert all(entry.kind is Kind.TRIAL for entry in written)
    assert len([entry for entry in written if entry.candidate == SPACE[-1]]) == 2, "the race and the cut finals"
