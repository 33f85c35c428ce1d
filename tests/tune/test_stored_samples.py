"""The search on what a store has of an earlier one, with no hardware."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.attentions import attention
from support.simulated_kernels import Noise, SimulatedBench, choices, simulated_task

from tvm_flow.backends.cpu.attention_tiles import streamed_space
from tvm_flow.backends.cpu.registers import Registers
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.errors import ConfigError
from tvm_flow.tune.curves import curves_of
from tvm_flow.tune.entries import DEFAULT, Entry, Kind
from tvm_flow.tune.ledger import append_all
from tvm_flow.tune.rounds import NoTimeError
from tvm_flow.tune.search import Search
from tvm_flow.tune.stored_samples import StoredBench, curve, replay
from tvm_flow.tune.verdicts import MODEL
from tvm_flow.tune.workloads import candidate_of

SPACE = choices(20)
TASK = simulated_task(SPACE)


@pytest.fixture(scope="module")
def measured() -> list[Entry]:
    """All of the space, on a machine that drifts by 5 % between races."""
    seconds = {DEFAULT: 1e-3} | {each: 1e-3 * (0.8 + 0.02 * i) for i, each in enumerate(reversed(SPACE))}
    entries: list[Entry] = []
    Search(SimulatedBench(seconds, Noise(5, spikes=0.02)), entries.append).run(TASK, [], len(SPACE))
    return entries


def test_a_replayed_search_finds_what_the_first_one_found(measured: list[Entry]) -> None:
    again = replay(TASK, measured, len(SPACE))
    assert again.tuned
    assert again.candidate == SPACE[-1]
    assert again.best.ratio == pytest.approx(1.25, rel=0.03)
    assert replay(TASK, measured, len(SPACE)) == again, "the same every time"


def test_a_curve_of_trials_never_falls_far(measured: list[Entry]) -> None:
    found = curve(TASK, measured, [1, 8, 20])
    assert found[-1] == max(found)
    assert min(found) >= 1.0


def test_what_was_never_measured_cannot_be_replayed(measured: list[Entry]) -> None:
    with pytest.raises(NoTimeError, match="no samples"):
        replay(TASK, [], 4)
    with pytest.raises(NoTimeError, match="no samples of it"):
        StoredBench.of(measured).sample("{}")


def test_a_curve_is_told_of_a_store(measured: list[Entry], tmp_path: Path) -> None:
    append_all(tmp_path, measured)
    (found,) = curves_of(tmp_path, TASK.key.workload[:4])
    assert [count for count, _ in found.points] == [1, 2, 4, 8, 16, 20]
    assert found.points[-1][1] == pytest.approx(1.25, rel=0.03)
    assert "measured" in found.lines()[0] and len(found.lines()) == 3
    with pytest.raises(ConfigError, match="records list"):
        curves_of(tmp_path, "nothing")


def test_modelled_records_have_a_curve_called_so(tmp_path: Path) -> None:
    key = replace(TASK.key, method=f"{MODEL} threads=4")
    cycles = {each: 1000.0 - 10 * number for number, each in enumerate(SPACE)}
    append_all(
        tmp_path, [Entry(key, Kind.MODELLED, c, "1", "0", (t,), (1000.0,), exact=True) for c, t in cycles.items()]
    )
    (found,) = curves_of(tmp_path, "")
    assert "modelled" in found.lines()[0]
    assert found.points[-1][1] == pytest.approx(1000 / min(cycles.values()))


def test_a_search_of_an_attention_s_space_finds_its_blocks_of_keys() -> None:
    """On a machine whose cache holds a quarter of the default's blocks."""
    found = as_attention(attention(1, 2, 256, 72, 1024, False))
    assert found is not None
    space = [candidate_of(each) for each in streamed_space(found, Registers(16, 8))]
    fewest = {each: json.loads(each).get("blocks", 4) for each in space}
    seconds = {DEFAULT: 1e-3} | {each: 1e-3 * (0.7 if fewest[each] == 16 else 1.2) for each in space}
    task, entries = simulated_task(space), []
    Search(SimulatedBench(seconds), entries.append).run(task, [], len(space))
    again = replay(task, entries, 48)
    assert again.tuned and json.loads(again.candidate)["blocks"] == 16
    assert again.best.ratio == pytest.approx(1 / 0.7, rel=0.05)
