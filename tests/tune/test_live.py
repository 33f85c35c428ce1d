"""What is shown while kernels are tuned, and what is kept of it for reports."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.simulated_kernels import KEY

from tvm_flow.tune.live import Live, won_share
from tvm_flow.tune.run_files import RunFile, read_runs, write_run
from tvm_flow.tune.search import Task
from tvm_flow.tune.statistics import NO_GAIN, Interval
from tvm_flow.tune.tuning_run import Run, TuneOptions
from tvm_flow.tune.verdicts import Verdict

MADE = RunFile("host", 3, 60.0, 40.0, 15.0, {"a": 2})


def test_what_is_won_is_the_lower_bounds_of_what_was_confirmed_by_their_part_of_the_time() -> None:
    won = Verdict("c", Interval(1.3, 1.25, 1.4), "")
    kept = Verdict("", NO_GAIN, "")
    assert won_share({"a": 3.0, "b": 1.0}, {"a": won, "b": kept}) == pytest.approx(3 * (1 - 1 / 1.25) / 4)
    assert won_share({}, {"a": won}) == 0.0


def test_the_bar_says_what_is_best_won_and_left(capsys: pytest.CaptureFixture[str]) -> None:
    live = Live(pytest.fail, 10, "trial")
    live.kernel("product 1x2x3")
    live.at(4, 1.25)
    live.gained(0.125)
    live.line("a line above")
    live.close()
    out, err = capsys.readouterr()
    assert out == "a line above\n"
    last = err.split("\r")[-1]
    assert "product 1x2x3" in last and "4/10" in last
    assert "best 1.250 x the default, 12.5% of the kernels' time won" in last


def test_without_a_bar_lines_go_where_they_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    live = Live(said.append, 10, "trial", shown=False)
    live.at(20, 1.0)
    live.line("words")
    assert said == ["words"] and capsys.readouterr() == ("", "")


def test_a_kernel_that_weighs_much_gets_time_for_its_finals_however_many_wait_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heavy, *others = [Task(replace(KEY, workload=str(n)), f"kernel {n}", ("a",)) for n in range(30)]
    run = Run(known=[], options=TuneOptions(0, 5.0, progress=False), start=time.monotonic(), say=print)
    run.shares = {heavy.key: 0.15} | {each.key: 0.05 for each in others}
    assert 300 * run.part(heavy, others) < 30
    assert 45 < run.time_for(heavy, others) < 60
    monkeypatch.setattr(Run, "time_left", lambda _: 10.0)
    assert run.time_for(heavy, others) == 10.0, "never more than there is"


def test_runs_are_read_back_and_what_is_no_run_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, MADE)
    for name, text in (("run-a.json", "{"), ("run-b.json", '{"target": 1}'), ("run-c.json", "[]")):
        (tmp_path / name).write_text(text)
    assert read_runs(tmp_path) == [MADE]
